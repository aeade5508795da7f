"""Marts: equal to a calculation in Python on every engine, incremental, killable, with comments for all readers."""

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Engine
from deltalake import DeltaTable
from marts_data import MODEL, ROW, Night, commits, face, night, read, result, shipped_calibration, write

from faceattr_udf.errors import BusyError, ConfigError, TableNotFoundError
from faceattr_udf.shares.calibrate import cells_of
from faceattr_udf.shares.calibration_file import LABELS
from faceattr_udf.shares.correct import CorrectedShares, correct, photograph_sums
from faceattr_udf.shares.fit import check_fit
from faceattr_udf.shares.statistics import BANDS, POOLED, Method, band_of
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.marts.build import MartsReport, build_marts
from faceattr_udf.spark.marts.layout import MARTS
from jobs import marts as marts_job


def build(engine: Engine, folder: Path, *settings: str, **options: Any) -> MartsReport:
    options.setdefault("calibration", shipped_calibration())
    return build_marts(engine.session, engine.config(*settings), str(folder), **options)


def everything(engine: Engine, folder: Path) -> dict[str, list[ROW]]:
    """Returns all rows of all marts; of marts_state without the time and the fingerprint."""
    tables = {name: read(engine, folder, name) for name in MARTS}
    for row in tables["marts_state"]:
        del row["built_at"], row["fingerprint"]
    return tables


def same(one: dict[str, list[ROW]], other: dict[str, list[ROW]]) -> None:
    assert one.keys() == other.keys()
    for name, rows in one.items():
        assert len(rows) == len(other[name]), name
        for mine, theirs in zip(rows, other[name], strict=True):
            assert mine == {
                k: v if v is None or isinstance(v, str) else pytest.approx(v, abs=1e-9) for k, v in theirs.items()
            }


def in_python(faces: list[ROW], attribute: str, method: Method, population: Any) -> tuple[CorrectedShares, float]:
    """Corrects the shares of faces with `faceattr_udf.shares`, and returns the distance of the fit."""
    statistics, labels = shipped_calibration().attributes[attribute], LABELS[attribute]
    scores = np.array([[row[f"{attribute}_probs"][label] for label in labels] for row in faces])
    scores /= scores.sum(axis=1, keepdims=True)
    used = scores if method == "pacc" else np.eye(len(labels))[scores.argmax(axis=1)]
    bands = band_of(np.array([row["quality"]["face_px"] for row in faces]))
    images = np.array([row["image_id"] for row in faces])
    sums = {(method, band): photograph_sums(used[bands == k], images[bands == k]) for k, band in enumerate(BANDS)}
    shares = correct(statistics, sums, population)
    assert shares is not None
    cells = np.bincount(cells_of(scores, statistics.edges), minlength=3 * len(labels))
    fit = check_fit(statistics, shares.share, cells, statistics.scores[method][POOLED].faces)
    assert fit is not None
    return shares, fit.distance


@pytest.mark.on_spark(slow=True)
@pytest.mark.parametrize(("method", "population"), [("acc", "catalogue"), ("pacc", "audience")])
def test_shares_equal_those_of_python(engine: Engine, tmp_path: Path, method: Method, population: str) -> None:
    rows = night()
    write(engine, tmp_path, rows)
    settings = (f"marts.method={method}", f"marts.population={population}")
    assert build(engine, tmp_path, *settings).uncorrected == ()
    found: dict[Any, dict[str, ROW]] = defaultdict(dict)
    for row in read(engine, tmp_path, "shares"):
        found[row["catalog"], row["period"], row["period_start"], row["attribute"]][row["label"]] = row
    for key, chosen in {
        ("all", "all", "all"): rows.faces,
        ("hats", "month", "2026-03-01"): [
            r for r in rows.faces if r["catalog"] == "hats" and r["captured_at"].month == 3
        ],
        ("shoes", "week", "2026-02-23"): [
            r for r in rows.faces if r["catalog"] == "shoes" and r["captured_at"] < datetime(2026, 3, 2, tzinfo=UTC)
        ],
    }.items():
        for attribute, labels in LABELS.items():
            shares, distance = in_python(chosen, attribute, method, population)
            mart = found[(*key, attribute)]
            assert mart.keys() == set(labels)
            for k, label in enumerate(labels):
                row = mart[label]
                assert row["share"] == pytest.approx(shares.share[k], abs=1e-7)
                assert (row["low"], row["high"]) == (
                    pytest.approx(shares.low[k], abs=1e-7),
                    pytest.approx(shares.high[k], abs=1e-7),
                )
                if shares.low_transfer is None or shares.high_transfer is None:
                    assert row["low_transfer"] is row["high_transfer"] is None
                else:
                    assert row["low_transfer"] == pytest.approx(shares.low_transfer[k], abs=1e-7)
                    assert row["high_transfer"] == pytest.approx(shares.high_transfer[k], abs=1e-7)
                assert (row["n_faces"], row["method"]) == (len(chosen), method)
                assert row["fit_tv"] == pytest.approx(distance, abs=1e-7)


@pytest.mark.on_spark(slow=True)
def test_marts_follow_changes_and_commit_nothing_without(engine: Engine, tmp_path: Path) -> None:
    rows = night(60)
    write(engine, tmp_path, rows)
    assert len(build(engine, tmp_path).days) == 11  # ten days, and the images without faces
    before = commits(tmp_path)
    assert build(engine, tmp_path).days == ()
    assert commits(tmp_path) == before
    # One face gets another label, one image and its faces go, one day goes entirely.
    changed = [dict(row) for row in rows.faces if row["captured_at"].day != 4 and row["image_id"] != "010.jpg"]
    one = next(row for row in changed if row["captured_at"].day == 3)
    one["gender"], one["run_id"] = "male", "run-2"
    kept = {row["image_id"] for row in changed}
    results = [row for row in rows.results if row["n_faces"] == 0 or row["image_id"] in kept]
    write(engine, tmp_path, Night(changed, results))
    days = build(engine, tmp_path).days
    assert {"2026-03-03", "2026-03-04"} <= set(days)
    assert "2026-03-06" not in days
    fresh = tmp_path / "fresh"
    write(engine, fresh, Night(changed, results))
    build(engine, fresh)
    same(everything(engine, tmp_path), everything(engine, fresh))


STEPS = ["created", "share_stats", "label_weights_var", "shares"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_build_is_completed_by_the_next(sail_engine: Engine, tmp_path: Path, step: str) -> None:
    rows = night(20)
    write(sail_engine, tmp_path, rows)

    def kill(name: str) -> None:
        if name == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(sail_engine, tmp_path, on_step=kill)
    done = build(sail_engine, tmp_path)
    assert done.days
    fresh = tmp_path / "fresh"
    write(sail_engine, fresh, rows)
    build(sail_engine, fresh)
    same(everything(sail_engine, tmp_path), everything(sail_engine, fresh))


@pytest.mark.on_spark(slow=True)
def test_every_column_has_a_comment_for_every_reader(engine: Engine, tmp_path: Path) -> None:
    write(engine, tmp_path, night(8))
    build(engine, tmp_path)
    for name, mart in MARTS.items():
        location = tmp_path / "marts" / name
        table = DeltaTable(location)
        assert table.metadata().description == mart.comment
        assert {field.name: field.metadata.get("comment") for field in table.schema().fields} == mart.comments
        seen = {field.name: field.metadata.get("comment") for field in engine.read(location).schema}
        if engine.name == "spark":
            assert seen == mart.comments


def test_keys_are_unique_and_never_null(sail_engine: Engine, tmp_path: Path) -> None:
    write(sail_engine, tmp_path, night(40))
    build(sail_engine, tmp_path)
    for name, mart in MARTS.items():
        keys = [tuple(row[key] for key in mart.keys) for row in read(sail_engine, tmp_path, name)]
        assert keys, name
        assert len(set(keys)) == len(keys), name
        assert not any(value is None for key in keys for value in key), name


def test_counts_of_a_hand_made_table(sail_engine: Engine, tmp_path: Path) -> None:
    faces = [
        face("a", 0, gender=(0.9, 0.1), age=30.0, face_px=30.0),
        face("a", 1, gender=(0.45, 0.55), age=9.0, face_px=90.0) | {"gender": None},
        face("b", 0, gender=(0.2, 0.8), face_px=90.0),
    ]
    results = [result("a", 2), result("b"), result("c", 0), result("d", 0, "unsupported", error="PNG is not decoded")]
    write(sail_engine, tmp_path, Night(faces, results))
    build(sail_engine, tmp_path)
    totals = {row["quality_band"]: row for row in read(sail_engine, tmp_path, "share_totals")}
    large = totals["large"]
    assert (totals["small"]["n_faces"], large["n_faces"], large["n_minors"]) == (1, 2, 1)
    assert (large["n_photographs"], large["n_abstained_gender"], large["n_abstained_emotion"]) == (2, 1, 2)
    # The abstained face counts for the label that the model finds more likely.
    stats = {(row["quality_band"], row["score_label"]): row for row in read(sail_engine, tmp_path, "share_stats")}
    assert stats["large", "male"]["n_faces"] == 2
    assert stats["large", "male"]["sum_p"] == pytest.approx(0.55 + 0.8)
    photographs = {(row["catalog"], row["crowd"]): row for row in read(sail_engine, tmp_path, "photographs")}
    assert photographs["shoes", "2"]["composition"] == "with_children"
    assert photographs["shoes", "1"]["composition"] == "men"
    assert photographs["unknown", "0"]["composition"] == "nobody"
    coverage = {
        (row["status"], row["reason"]): row for row in read(sail_engine, tmp_path, "coverage") if row["n_faces"] == 0
    }
    assert coverage["unsupported", "format"]["n_images"] == 1
    assert coverage["no_face", "none"]["face_px_p50"] is None
    # By hand: W (q_female, q_male) of one small face in the pooled statistics and two large ones in their own.
    scores = shipped_calibration().attributes["gender"].scores["acc"]
    share = (scores[POOLED].weights @ [1, 0] + 2 * scores["large"].weights @ [0, 1]) / 3
    shares = {row["label"]: row for row in read(sail_engine, tmp_path, "shares") if row["period"] == "all"}
    assert shares["male"]["raw_share"] == pytest.approx(2 / 3)
    assert shares["female"]["share"] == pytest.approx(np.clip(share[0], 0, 1), abs=1e-5)


def test_protected_faces_without_age_are_minors(sail_engine: Engine, tmp_path: Path) -> None:
    faces = [
        face("a", 0, age=None, minor=True),
        face("a", 1, gender=(0.9, 0.1), minor=False),
        face("b", gender=(0.9, 0.1), age=15.0, minor=False),  # of an age of majority below 18
        face("c", gender=(0.9, 0.1), age=None, minor=False),
    ]
    write(sail_engine, tmp_path, Night(faces, [result("a", 2), result("b"), result("c")]))
    build(sail_engine, tmp_path)
    (totals,) = read(sail_engine, tmp_path, "share_totals")
    assert (totals["n_faces"], totals["n_minors"]) == (4, 2)
    shown = {
        (row["crowd"], row["composition"]): row["n_photographs"] for row in read(sail_engine, tmp_path, "photographs")
    }
    assert shown == {("2", "with_children"): 1, ("1", "with_children"): 1, ("1", "women"): 1}


@pytest.mark.parametrize("n_faces", [0, 1])
def test_tables_with_no_face_or_one(sail_engine: Engine, tmp_path: Path, n_faces: int) -> None:
    faces = [face("a", gender=(0.99, 0.01))][:n_faces]
    write(sail_engine, tmp_path, Night(faces, [result("a", n_faces)]))
    assert build(sail_engine, tmp_path).n_days == 1
    shares = [
        row for row in read(sail_engine, tmp_path, "shares") if row["period"] == "all" and row["catalog"] == "all"
    ]
    assert [(row["label"], row["share"]) for row in shares] == [("female", 1.0), ("male", 0.0)][: 2 * n_faces]
    if n_faces:
        assert shares[0]["low"] < 1.0


def test_empty_tables_have_no_days(sail_engine: Engine, tmp_path: Path) -> None:
    write(sail_engine, tmp_path, Night([], []))
    assert build(sail_engine, tmp_path).n_days == 0
    assert not any(read(sail_engine, tmp_path, name) for name in MARTS)


def test_probabilities_that_are_no_distribution_do_not_count(sail_engine: Engine, tmp_path: Path) -> None:
    good = face("a", gender=(0.9, 0.1))
    odd = [
        face("b", 0, gender=(float("nan"), 0.2)) | {"gender": None},
        face("b", 1, gender=(0.2, 0.2)) | {"gender": None},
        face("b", 2) | {"gender_probs": {"female": None, "male": 0.5}},
        face("b", 3) | {"gender_probs": {}},
        face("b", 4),
    ]
    write(sail_engine, tmp_path, Night([good, *odd], [result("a"), result("b", 5)]))
    build(sail_engine, tmp_path)
    assert {row["n_faces"] for row in read(sail_engine, tmp_path, "shares")} == {1.0}
    (totals,) = read(sail_engine, tmp_path, "share_totals")
    assert totals["n_faces"] == 6


def test_attribute_that_was_not_predicted_has_no_rows(sail_engine: Engine, tmp_path: Path) -> None:
    write(sail_engine, tmp_path, Night([face("a", emotion=(0.9, 0.1, 0, 0, 0, 0, 0))], [result("a")]))
    build(sail_engine, tmp_path)
    assert {row["attribute"] for row in read(sail_engine, tmp_path, "shares")} == {"emotion"}


@pytest.mark.on_spark(slow=True)
def test_rows_without_probabilities_of_ages_are_counted_by_label(engine: Engine, tmp_path: Path) -> None:
    old = face("a") | {"age_group": "20-29"}
    new = face("b", age_group=(0, 0, 0.9, 0.1, 0, 0, 0, 0))
    write(engine, tmp_path, Night([old, new], [result("a"), result("b")]))
    build(engine, tmp_path, "marts.method=pacc")
    stats = read(engine, tmp_path, "share_stats")
    by_method = {row["method"]: row for row in stats if row["score_label"] == "20-29"}
    assert (by_method["acc"]["score"], by_method["acc"]["sum_p"]) == (1.0, None)
    assert by_method["pacc"]["score"] == pytest.approx(0.9, abs=1e-6)
    assert {row["method"] for row in read(engine, tmp_path, "shares")} == {"acc"}


def test_weights_without_statistics_give_raw_shares(sail_engine: Engine, tmp_path: Path) -> None:
    faces = [face("a", gender=(0.9, 0.1)), face("b", gender=(0.8, 0.2), model_version="mtcnn-test+own-1")]
    write(sail_engine, tmp_path, Night(faces, [result("a"), result("b")]))
    assert build(sail_engine, tmp_path).uncorrected == ("mtcnn-test+own-1",)
    found = {(row["model_version"], row["label"]): row for row in read(sail_engine, tmp_path, "shares")}
    own, shipped = found["mtcnn-test+own-1", "female"], found[MODEL, "female"]
    assert (own["method"], own["share"], own["low"], own["fit"], own["calibration_id"]) == (
        "none",
        1.0,
        None,
        "unknown",
        None,
    )
    assert shipped["method"] == "acc"
    assert shipped["calibration_id"] == shipped_calibration().calibration_id
    # Without any calibration nothing is corrected, and every day is built again.
    assert build(sail_engine, tmp_path, calibration=None).days == ("2026-03-03",)
    assert {row["method"] for row in read(sail_engine, tmp_path, "shares")} == {"none"}
    assert read(sail_engine, tmp_path, "label_weights") == []


@pytest.mark.on_spark(slow=True)
def test_odd_catalogs_and_days(engine: Engine, tmp_path: Path) -> None:
    names = ["it's", '<script>alert("x")</script>', "שלום", "all", "", None, "a`b", "unknown"]
    days = [datetime(2999, 12, 31, tzinfo=UTC), None]
    faces = [face(f"{k}", gender=(0.9, 0.1), catalog=name, captured_at=days[k % 2]) for k, name in enumerate(names)]
    write(engine, tmp_path, Night(faces, [result(f"{k}") for k in range(len(names))]))
    assert build(engine, tmp_path).days == ("2999-12-31", "unknown")
    found = {(row["catalog"], row["day"]): row["n_faces"] for row in read(engine, tmp_path, "share_totals")}
    assert found == {
        ("it's", "2999-12-31"): 1,
        ('<script>alert("x")</script>', "unknown"): 1,
        ("שלום", "2999-12-31"): 1,
        ("all (by name)", "unknown"): 1,
        ("unknown", "2999-12-31"): 1,
        ("unknown", "unknown"): 2,
        ("a`b", "2999-12-31"): 1,
    }
    whole = {row["catalog"]: row for row in read(engine, tmp_path, "shares") if row["period"] == "all"}
    assert whole["all"]["n_faces"] == 8.0


def test_run_that_is_going_on_is_followed_by_the_next_build(sail_engine: Engine, tmp_path: Path) -> None:
    # A wave's faces are committed before its image_results, and a build may come in between.
    rows, folders = night(), (tmp_path / "beside", tmp_path / "after")
    later = {row["image_id"] for row in rows.results[::3]}
    write(sail_engine, folders[0], Night(rows.faces, [row for row in rows.results if row["image_id"] not in later]))
    assert build(sail_engine, folders[0]).days
    for folder in folders:
        write(sail_engine, folder, rows)
        build(sail_engine, folder)
    same(*(everything(sail_engine, folder) for folder in folders))


def test_missing_tables_and_columns_are_told_before_work(sail_engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(TableNotFoundError, match="write them with faceattr enrich"):
        build(sail_engine, tmp_path / "nothing")
    write(sail_engine, tmp_path, night(2))
    with pytest.raises(ConfigError, match=r"marts\.catalog names 'brand', which the faces do not have"):
        build(sail_engine, tmp_path, "marts.catalog=brand")
    with pytest.raises(ConfigError, match=r"marts\.date names 'age' of type float"):
        build(sail_engine, tmp_path, "marts.date=age")
    with pytest.raises(ConfigError, match=r"output\.runs = .* is where the marts go"):
        build(sail_engine, tmp_path, "output.runs=marts")
    assert not (tmp_path / "marts").exists()


def test_second_build_is_refused(sail_engine: Engine, tmp_path: Path) -> None:
    write(sail_engine, tmp_path, night(2))
    with Lease(str(tmp_path / "marts"), "jobs.marts", 60), pytest.raises(BusyError):
        build(sail_engine, tmp_path)


def test_slices_divide_and_add_up(sail_engine: Engine, tmp_path: Path) -> None:
    rows = night(30)
    write(sail_engine, tmp_path, rows)
    build(sail_engine, tmp_path, 'marts.slices=["path", "catalog"]')
    shares = [
        row for row in read(sail_engine, tmp_path, "shares") if row["period"] == "all" and row["catalog"] == "all"
    ]
    faces = {row["slice"]: row["n_faces"] for row in shares}
    assert faces.keys() == {"all", "unknown / shoes", "unknown / hats"}
    assert faces["all"] == faces["unknown / shoes"] + faces["unknown / hats"] == len(rows.faces)


def test_command_says_what_it_built(sail_engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(sail_engine, tmp_path, night(6))
    assert marts_job.main(["--output", str(tmp_path), "--json", str(tmp_path / "summary.json")]) == 0
    assert "days built" in capsys.readouterr().out
    assert marts_job.main(["--output", str(tmp_path)]) == 0
    assert "nothing has changed" in capsys.readouterr().out
    assert marts_job.main(["--output", str(tmp_path / "none")]) == 2
