"""Drift on tables that these tests write themselves, so that no model runs."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
from conftest import Engine
from face_tables import face_row
from pyspark.sql.types import StructType

from faceattr_udf.cli.drift import main
from faceattr_udf.config import OutputConfig
from faceattr_udf.drift.nights import Key, Kind, NightReport
from faceattr_udf.errors import ConfigError, TableNotFoundError
from faceattr_udf.spark.drift import judge_run
from faceattr_udf.spark.drift.values import nights
from faceattr_udf.spark.locations import output_ref
from faceattr_udf.spark.schemas import IMAGE_RESULTS, RUNS, faces_table
from faceattr_udf.spark.tables import Tables

START = datetime(2026, 1, 1, tzinfo=UTC)
FACES = 40
SMALL = "drift.min_faces=20"


class Output:
    """The tables of an output, to which runs are added."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.tables = Tables(engine.session, engine.name)
        self._rows: dict[str, list[dict[str, Any]]] = {"faces": [], "image_results": [], "runs": []}

    def add(
        self,
        number: int,
        *,
        brightness: float = 0.5,
        female: int = 20,
        corrupt: int = 0,
        n: int = FACES,
        replaced: int = 0,
        **run: Any,
    ) -> str:
        """Adds a run of `n` images with a face each; `replaced` of them a later run has written again."""
        started = START + timedelta(days=number)
        of = {"run_id": f"r{number:03}", "model_version": "m1", "config_id": "c1", "processed_at": started}
        of |= {key: run[key] for key in of if key in run}
        for index in range(n):
            own = of if index >= replaced else {**of, "run_id": "later"}
            little = 0.01 * ((index * 7 + number) % 11 - 5)
            p = 0.9 if index < female else 0.2
            quality = {"face_px": 80.0, "blur": 0.3, "brightness": brightness + little, "yaw": 0, "pitch": 0, "roll": 0}
            face = face_row(
                f"{number}-{index}", 0, quality={k: float(v) for k, v in quality.items()}, age=30.0 + little
            )
            face |= {"gender": "female" if p > 0.5 else "male", "gender_confidence": max(p, 1 - p)}
            face |= {"gender_probs": {"female": p, "male": 1 - p}, **own}
            self._rows["faces"].append(face)
            result = {"image_id": f"{number}-{index}", "status": "ok", "n_faces": 1}
            self._rows["image_results"].append(result | own)
        for index in range(corrupt):
            self._rows["image_results"].append(
                {"image_id": f"{number}-c{index}", "status": "corrupt", "n_faces": 0} | of
            )
        ends = {"state": "completed", "started_at": started, "finished_at": started + timedelta(hours=1), "n_faces": n}
        self._rows["runs"].append(of | ends | run)
        return of["run_id"]

    def save(self) -> None:
        """Appends the added rows to the tables."""
        schemas = {"faces": faces_table(OutputConfig()), "image_results": IMAGE_RESULTS, "runs": RUNS}
        for name, schema in schemas.items():
            ref = output_ref(name, str(self.folder))
            self.tables.ensure(ref, schema)
            rows = [_row(row, schema) for row in self._rows[name]]
            if rows:
                self.tables.append(ref, self.engine.session.createDataFrame(rows, schema))
            self._rows[name] = []

    def judge(self, run_id: str | None = None, *overrides: str, accept: bool = False) -> NightReport:
        config = self.engine.config(SMALL, *overrides)
        return judge_run(self.engine.session, config, str(self.folder), run_id, accept=accept)

    def rows(self) -> list[dict[str, Any]]:
        found = [row.asDict() for row in self.engine.read(self.folder / "drift").collect()]
        return sorted(found, key=lambda row: (row["run_id"], row["metric"], row["label"]))


def _row(row: dict[str, Any], schema: StructType) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in schema.fieldNames())


@pytest.fixture
def output(engine: Engine, tmp_path: Path) -> Output:
    return Output(engine, tmp_path / "out")


def quiet(output: Output, numbers: Sequence[int] = range(7), **run: Any) -> None:
    for number in numbers:
        output.add(number, **run)


def test_no_tables_and_no_runs_are_told(output: Output) -> None:
    with pytest.raises(TableNotFoundError, match="runs does not exist"):
        output.judge()
    output.save()
    with pytest.raises(ConfigError, match=r"no run of .* has completed; run faceattr enrich first"):
        output.judge()


@pytest.mark.on_spark
def test_seven_quiet_nights_come_before_an_alarm(output: Output) -> None:
    quiet(output, range(6))
    dark = output.add(6, brightness=0.2)
    output.save()
    report = output.judge()
    assert (report.night.run_id, report.kind) == (dark, None)
    assert report.reason == "only 6 of 7 quiet nights before it"
    output.add(7, brightness=0.2)
    output.save()
    # The first dark night could not be known for one, so seven nights are there; their scatter is large.
    assert output.judge().reference_nights == 7


@pytest.mark.on_spark
def test_dark_night_alarms_and_is_no_reference(output: Output) -> None:
    quiet(output)
    output.add(7, brightness=0.2)
    output.add(8, brightness=0.2)
    output.add(9)
    output.save()
    assert output.judge().kind is None
    kinds = {row["run_id"]: row["kind"] for row in output.rows() if row["metric"] == "night"}
    assert kinds == {f"r{number:03}": "photography" if number in {7, 8} else None for number in range(10)}
    alarms = [(row["run_id"], row["metric"], row["kind"]) for row in output.rows() if row["alarm"]]
    assert ("r007", "brightness", "photography") in alarms
    assert {run for run, _, _ in alarms} == {"r007", "r008"}
    last = {row["metric"]: row for row in output.rows() if row["run_id"] == "r009"}
    assert last["brightness"]["reference_nights"] == 7
    assert last["brightness"]["reference"] == pytest.approx(0.5, abs=0.01)


def test_other_people_are_a_mix_and_broken_files_an_input(output: Output) -> None:
    quiet(output, range(20))
    mix = output.add(20, female=0)
    output.add(21, corrupt=40)
    output.save()
    assert output.judge().kind is Kind.INPUT
    assert output.judge(mix).kind is Kind.MIX


@pytest.mark.on_spark
def test_values_equal_a_calculation_by_hand(output: Output) -> None:
    run_id = output.add(0, female=10, corrupt=10)
    output.add(1, female=30)
    output.save()
    output.judge(run_id)
    found = {(row["metric"], row["label"]): row for row in output.rows()}
    p = [0.9] * 10 + [0.2] * 30
    share = found["share", "gender/female"]
    assert share["value"] == pytest.approx(fmean(p), rel=1e-6)
    assert share["sampling_sd"] == pytest.approx(pstdev(p) / 40**0.5, rel=1e-5)
    assert share["n"] == 40
    assert found["confidence_of_label", "gender/male"]["value"] == pytest.approx(0.8, rel=1e-6)
    assert found["confidence_of_label", "gender/male"]["n"] == 30
    assert found["abstention", "gender"]["value"] == 0.0
    assert found["share", "age_group/30-39"]["value"] == 1.0
    assert found["face_px", ""]["value"] == pytest.approx(80.0)
    assert found["faces_per_photograph", ""]["value"] == 1.0
    assert found["status", "corrupt"]["value"] == pytest.approx(0.2)
    assert (found["night", ""]["value"], found["night", ""]["n"]) == (40, 50)
    assert {row["run_id"] for row in output.rows()} == {run_id}


def test_abstentions_and_attributes_that_are_not_predicted(output: Output) -> None:
    for number in range(8):
        output.add(number)
    for face in output._rows["faces"]:
        face["gender"] = None
        face |= {
            "ethnicity": None,
            "ethnicity_confidence": None,
            "ethnicity_probs": None,
            "age": None,
            "age_group": None,
        }
    output.save()
    values = output.judge().night.values
    assert values[Key("abstention", "gender")].value == 1.0
    assert values[Key("share", "gender/female")].value == pytest.approx(0.55, abs=1e-6)
    assert not [key for key in values if key.label.startswith(("ethnicity", "age_group")) or key.metric == "age"]


def test_night_without_faces_or_images_is_too_small(output: Output) -> None:
    quiet(output)
    output.add(7, n=0)
    output.add(8, n=0, corrupt=30)
    output.save()
    assert output.judge("r007").reason == "only 0 of 20 faces"
    assert output.judge("r008").kind is Kind.INPUT


def test_runs_that_did_not_complete_do_not_count(output: Output) -> None:
    quiet(output, range(6))
    for number, state in ((6, "interrupted"), (7, "failed"), (8, "running")):
        output.add(number, state=state, brightness=0.1)
    output.add(9, brightness=0.2)
    output.save()
    assert output.judge().reason == "only 6 of 7 quiet nights before it"
    with pytest.raises(ConfigError, match="run r006 is interrupted; name a completed run, or none"):
        output.judge("r006")
    with pytest.raises(ConfigError, match="there is no run 'r100'"):
        output.judge("r100")


def test_runs_whose_rows_were_replaced_do_not_count(output: Output) -> None:
    quiet(output, range(6))
    output.add(6, replaced=10)
    output.add(7)
    output.save()
    assert output.judge().reason == "only 6 of 7 quiet nights before it"
    with pytest.raises(ConfigError, match="later runs have replaced its rows"):
        output.judge("r006")


def test_values_stay_when_later_runs_replace_the_rows(output: Output) -> None:
    quiet(output)
    output.save()
    output.judge()
    faces = output.engine.read(output.folder / "faces").where("false")
    faces.write.format("delta").mode("overwrite").save(str(output.folder / "faces"))
    output.add(7, brightness=0.2)
    output.save()
    assert output.judge().kind is Kind.PHOTOGRAPHY


@pytest.mark.parametrize("fields", [{"model_version": "m2"}, {"config_id": "c2"}])
def test_new_model_or_configuration_starts_anew(output: Output, fields: dict[str, str]) -> None:
    quiet(output)
    output.add(7, brightness=0.2, **fields)
    output.save()
    assert str(output.judge().reason).startswith("only 0 of 7 quiet nights before it")
    quiet(output, range(8, 15), brightness=0.2, **fields)
    output.add(15, **fields)
    output.save()
    assert output.judge().kind is Kind.PHOTOGRAPHY


def test_clock_that_went_back_is_no_matter(output: Output) -> None:
    quiet(output)
    output.save()
    output.judge()
    early = output.add(-400, brightness=0.2, run_id="early")
    output.save()
    assert output.judge(early).kind is Kind.PHOTOGRAPHY


@pytest.mark.on_spark
def test_accepted_run_is_the_new_normal(output: Output) -> None:
    quiet(output)
    quiet(output, range(7, 15), brightness=0.2)
    output.save()
    assert output.judge().kind is Kind.PHOTOGRAPHY
    report = output.judge("r007", accept=True)
    assert report.reason == "a person accepted it as the new normal"
    nights = {row["run_id"]: row for row in output.rows() if row["metric"] == "night"}
    assert [run for run, row in nights.items() if row["accepted"]] == ["r007"]
    assert not any(row["alarm"] for row in output.rows())
    output.add(15)
    output.save()
    assert output.judge().kind is Kind.PHOTOGRAPHY  # the old light is the unusual one now
    assert output.judge("r007").reason == "a person accepted it as the new normal"


def test_judging_again_changes_nothing(output: Output) -> None:
    quiet(output)
    output.add(7, brightness=0.2)
    output.save()
    first = output.judge()
    before = [{key: row[key] for key in row if key != "judged_at"} for row in output.rows()]
    assert output.judge().alarms == first.alarms
    assert [{key: row[key] for key in row if key != "judged_at"} for row in output.rows()] == before


def test_labels_of_other_models_are_known(output: Output) -> None:
    output.add(0)
    for face in output._rows["faces"]:
        face |= {"emotion": "calm", "emotion_confidence": 0.7, "emotion_probs": {"calm": 0.7, "it's\n": 0.3}}
    output.save()
    values = output.judge().night.values
    assert values[Key("share", "emotion/calm")].value == pytest.approx(0.7, abs=1e-6)
    assert values[Key("share", "emotion/it's\n")].value == pytest.approx(0.3, abs=1e-6)


def test_no_runs_have_no_values(output: Output) -> None:
    output.save()
    read = [output.engine.read(output.folder / name) for name in ("faces", "image_results")]
    assert nights([], *read) == []


def test_drift_table_needs_a_name_of_its_own(output: Output) -> None:
    output.add(0)
    output.save()
    with pytest.raises(ConfigError, match=r"output.drift = 'faces' is the table output.faces"):
        output.judge(None, "output.drift=faces")


@pytest.fixture
def command(output: Output) -> Callable[..., int]:
    def run(*arguments: str) -> int:
        settings = [word for pair in (SMALL, *output.engine.settings) for word in ("--set", pair)]
        return main(["--output", str(output.folder), *settings, *arguments])

    return run


def test_command_prints_and_fails_on_request(
    output: Output, command: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    quiet(output)
    output.add(7, brightness=0.2)
    output.save()
    told = tmp_path / "told.json"
    assert command("--json", str(told)) == 0
    printed = capsys.readouterr().out
    assert "run r007: 40 faces, 40 images" in printed
    assert "drift: photography (brightness -0.298)" in printed
    assert "brightness  0.2" in printed
    assert json.loads(told.read_text())["alarms"][0]["metric"] == "brightness"
    assert command("--fail-on-drift") == 3
    assert command("--fail-on-drift", "--run", "r006") == 0
    assert command("--run", "nothing") == 2
    assert "drift: there is no run 'nothing'" in capsys.readouterr().err
