"""The night on every engine: what it writes, and what survives being killed."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from conftest import Engine
from fakes import content, inferred, provider
from pyspark.errors import PySparkException

from faceattr_udf.errors import BusyError, EngineError
from faceattr_udf.spark.enrichment import enrich
from faceattr_udf.spark.runs import Run
from faceattr_udf.spark.staging import Staging
from faceattr_udf.spark.waves import Wave

SCHEMA = "image_id string, content binary, content_sha256 string, path string, captured_at timestamp, subject_id int"
NIGHT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Killed(BaseException):
    """Not an Exception: as with a real kill, nothing is tidied up."""


def image(image_id: str | None, data: bytes | None, *, hashed: bool = True) -> tuple[Any, ...]:
    digest = sha256(data).hexdigest() if data is not None and hashed else None
    return (image_id, data, digest, f"/x/{image_id}", NIGHT, None if image_id == "b" else 7)


PICTURES = [
    image("a", content(2)),
    image("b", content(1, "b")),
    image("c", content(0)),
    image("d", None),
    image("e", b"garbage"),
    image("f", b""),
    image("it's \\ ünicode", content(1, "quote")),
    image("g", content(3, "no hash"), hashed=False),
    image("z", content(2)),
]


TWO_WAVES = "enrich.wave_images=5"


class Place:
    """An images table and an output folder on one engine."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.seen = folder / "seen"

    def write(self, rows: list[tuple[Any, ...]], schema: str = SCHEMA, form: str = "delta") -> None:
        frame = self.engine.frame(rows, schema)
        frame.write.format(form).mode("overwrite").save(str(self.folder / "images"))

    def run(self, *overrides: str, version: str = "fake-1", checkpoint: Callable[[str], None] = lambda _: None) -> Run:
        config = self.engine.config(*overrides)
        session, out = self.engine.session, str(self.folder / "out")
        return enrich(
            session,
            config,
            str(self.folder / "images"),
            out,
            provider=provider(self.seen, version),
            checkpoint=checkpoint,
        )

    def copy(self, folder: Path) -> "Place":
        """The same elsewhere: Delta's paths are relative to its table."""
        shutil.copytree(self.folder, folder)
        return Place(self.engine, folder)

    def table(self, name: str) -> list[dict[str, Any]]:
        """Rows as plain data in a fixed order, without what differs from run to run."""
        rows = [row.asDict(recursive=True) for row in self.engine.read(self.folder / "out" / name).collect()]
        rows = [{key: row[key] for key in row if key not in {"run_id", "processed_at"}} for row in rows]
        return sorted(rows, key=lambda row: (row["image_id"], row.get("face_index", 0)))

    def tables(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        return self.table("faces"), self.table("image_results")


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Place:
    return Place(engine, tmp_path)


def killed_at(point: str, nth: int = 1) -> Callable[[str], None]:
    passed: list[str] = []

    def checkpoint(name: str) -> None:
        passed.append(name)
        if passed.count(point) == nth and name == point:
            raise Killed

    return checkpoint


def statuses(place: Place) -> dict[str, str]:
    return {row["image_id"]: row["status"] for row in place.table("image_results")}


def test_empty_table(place: Place) -> None:
    place.write([])
    run = place.run()
    assert (run.state, run.n_images, run.counts) == ("completed", 0, {})
    assert place.tables() == ([], [])


@pytest.mark.connect
def test_every_image_gets_one_row_and_every_face_one(place: Place) -> None:
    place.write(PICTURES)
    run = place.run(TWO_WAVES)
    faces, results = place.tables()
    assert {row["image_id"]: (row["status"], row["n_faces"]) for row in results} == {
        "a": ("ok", 2),
        "b": ("ok", 1),
        "c": ("no_face", 0),
        "d": ("missing", 0),
        "e": ("corrupt", 0),
        "f": ("corrupt", 0),
        "g": ("ok", 3),
        "it's \\ ünicode": ("ok", 1),
        "z": ("ok", 2),
    }
    assert [(row["image_id"], row["face_index"]) for row in faces] == [
        *(("a", 0), ("a", 1), ("b", 0), ("g", 0), ("g", 1), ("g", 2)),
        *(("it's \\ ünicode", 0), ("z", 0), ("z", 1)),
    ]
    by_id = {(row["image_id"], row["face_index"]): row for row in faces}
    assert by_id["a", 1]["bbox"] == {"x_min": 1.0, "y_min": 2.0, "x_max": 30.0, "y_max": 40.5}
    assert by_id["a", 1]["age"] is None
    assert by_id["a", 1]["emotion_probs"] == {"neutral": 0.25, "fear": 0.75}
    assert by_id["a", 1]["emotion"] is None
    assert by_id["a", 1]["ethnicity_probs"] is None
    assert by_id["a", 1]["quality"]["yaw"] == -3.0
    assert (by_id["a", 0]["subject_id"], by_id["b", 0]["subject_id"]) == (7, None)
    assert by_id["a", 0]["path"] == "/x/a"
    captured = place.engine.read(place.folder / "out" / "faces").selectExpr("cast(captured_at as long)").first()
    assert captured is not None
    assert captured[0] == int(NIGHT.timestamp())
    # a and z have the same content, and d has none.
    assert sorted(inferred(place.seen)) == sorted(
        sha256(row[1]).hexdigest() for row in PICTURES[:-1] if row[1] is not None
    )
    assert (run.n_images, run.n_faces, run.n_inferred) == (9, 9, 7)
    assert run.counts == {"ok": 5, "no_face": 1, "missing": 1, "corrupt": 2}
    errors = {row["image_id"]: row["error"] for row in results if row["error"] is not None}
    assert errors == {"d": "no content", "e": "not an image", "f": "not an image"}
    assert not (place.folder / "out" / "_staging").exists()


@pytest.mark.connect
def test_second_run_infers_nothing(place: Place) -> None:
    place.write(PICTURES)
    place.run()
    before, seen = place.tables(), inferred(place.seen)
    run = place.run()
    assert (run.n_images, run.n_inferred) == (0, 0)
    assert place.tables() == before
    assert inferred(place.seen) == seen


def test_other_config_or_model_infers_anew(place: Place) -> None:
    place.write(PICTURES)
    place.run()
    assert place.run("detector.min_face_size=40").n_inferred == 7
    run = place.run("detector.min_face_size=40", version="fake-2")
    assert run.n_inferred == 7
    assert {row["model_version"] for table in place.tables() for row in table} == {"fake-2"}
    assert len(place.table("faces")) == 9


def test_changed_content_replaces_all_faces(place: Place) -> None:
    place.write(PICTURES)
    place.run()
    place.write([image("a", content(1, "new")), *PICTURES[1:]])
    run = place.run()
    assert (run.n_images, run.n_inferred) == (1, 1)
    assert [row["face_index"] for row in place.table("faces") if row["image_id"] == "a"] == [0]
    place.write([image("a", None), *PICTURES[1:]])
    assert place.run().counts == {"missing": 1}
    assert not [row for row in place.table("faces") if row["image_id"] == "a"]


def test_known_content_under_a_new_name_is_not_inferred(place: Place) -> None:
    place.write(PICTURES)
    place.run()
    place.write([*PICTURES, image("0", content(2)), image("zz", b"garbage")])
    run = place.run()
    assert (run.n_images, run.n_inferred, run.n_faces) == (2, 0, 2)
    faces = {(row["image_id"], row["face_index"]): row for row in place.table("faces")}
    assert {k: v for k, v in faces["0", 1].items() if k not in {"image_id", "path"}} == {
        k: v for k, v in faces["a", 1].items() if k not in {"image_id", "path"}
    }
    assert faces["0", 1]["path"] == "/x/0"
    assert statuses(place)["zz"] == "corrupt"


CHANGED = [image("a", content(1, "new")), image("aa", content(2)), *PICTURES[1:]]


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Engine], Place]:
    """Per engine: a night that is done, after which the images have changed. To be copied, not to be touched."""
    done: dict[str, Place] = {}

    def place_of(engine: Engine) -> Place:
        if engine.name not in done:
            place = Place(engine, tmp_path_factory.mktemp(engine.name))
            place.write(PICTURES)
            place.run()
            place.write(CHANGED)
            done[engine.name] = place
        return done[engine.name]

    return place_of


@pytest.fixture(scope="module")
def calm(yesterday: Callable[[Engine], Place], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Engine], Place]:
    """Per engine: the following night as it goes when nothing happens."""
    done: dict[str, Place] = {}

    def place_of(engine: Engine) -> Place:
        if engine.name not in done:
            done[engine.name] = yesterday(engine).copy(tmp_path_factory.mktemp(engine.name) / "calm")
            done[engine.name].run(TWO_WAVES, "detector.min_face_size=40")
        return done[engine.name]

    return place_of


POINTS = ["leased", "created", "tidied", "begun", "planned", "staged", "faces", "results", "ended"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_run_again_equals_undisturbed(
    engine: Engine,
    tmp_path: Path,
    point: str,
    yesterday: Callable[[Engine], Place],
    calm: Callable[[Engine], Place],
) -> None:
    if engine.name == "spark" and point not in {"staged", "faces", "results"}:
        pytest.skip("Spark takes a quarter of a minute for each: there, only the points around the commits")
    killed = yesterday(engine).copy(tmp_path / "killed")
    nth = 2 if point in {"staged", "faces", "results"} else 1
    with pytest.raises(Killed):
        killed.run(TWO_WAVES, "detector.min_face_size=40", checkpoint=killed_at(point, nth))
    killed.run(TWO_WAVES, "detector.min_face_size=40")
    assert killed.tables() == calm(engine).tables()
    assert not (killed.folder / "out" / "_staging").exists()
    states = [row.state for row in engine.read(killed.folder / "out" / "runs").orderBy("started_at").collect()]
    # Without a row nothing tells of it, and with its end recorded it was complete.
    of_the_killed = [] if point in {"leased", "created", "tidied"} else ["interrupted"]
    assert states == ["completed", *(["completed"] if point == "ended" else of_the_killed), "completed"]


def test_killed_before_any_table_is_there(place: Place) -> None:
    place.write(PICTURES)
    for name in ("faces", "runs"):
        (place.folder / "out" / name / "_delta_log").mkdir(parents=True)
    place.run()
    assert len(place.table("image_results")) == len(PICTURES)
    assert len(place.table("faces")) == 9


def test_a_picture_that_changes_while_a_run_is_at_work_gives_its_faces_to_nobody(place: Place) -> None:
    place.write([image("a", content(2)), image("b", content(2)), image("c", content(3))])

    def change(point: str) -> None:
        if point == "planned":
            place.write([image("a", content(1, "new")), image("b", content(2)), image("c", content(1, "newer"))])

    run = place.run(checkpoint=change)
    assert run.n_inferred == 1
    # The rows are of the contents that they name, a's too; of what c was nobody has a copy.
    assert statuses(place) == {"a": "ok", "b": "ok", "c": "missing"}
    assert [row["image_id"] for row in place.table("faces")] == ["a", "a", "b", "b"]
    assert place.run().n_images == 2
    assert [row["image_id"] for row in place.table("faces")] == ["a", "b", "b", "c"]


def test_an_output_that_another_run_has_taken_over_is_left_alone(place: Place) -> None:
    place.write(PICTURES)
    place.run()
    before = place.tables()

    def take_over(point: str) -> None:
        if point == "staged":
            for file in (place.folder / "out" / "_lease").iterdir():
                file.unlink()

    with pytest.raises(BusyError, match="has passed to another writer"):
        place.run("detector.min_face_size=40", checkpoint=take_over)
    assert place.tables() == before
    assert (place.folder / "out" / "_staging").exists()  # the other's may be among it
    states = [row.state for row in place.engine.read(place.folder / "out" / "runs").orderBy("started_at").collect()]
    assert states == ["completed", "running"]  # the other one marks it


def test_a_second_run_is_refused_before_it_has_touched_anything(place: Place) -> None:
    place.write(PICTURES)

    def again(point: str) -> None:
        if point == "planned":
            with pytest.raises(BusyError, match="out is being written by run "):
                place.run()

    place.run(checkpoint=again)
    assert len(place.table("image_results")) == len(PICTURES)
    assert place.engine.read(place.folder / "out" / "runs").count() == 1


class EngineGone(PySparkException):
    """Stands for a worker that the system has killed."""


@pytest.mark.parametrize("failures", [2, 3])
def test_a_wave_is_tried_again_when_the_engine_fails(
    place: Place, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write(PICTURES)
    real, failed, waited = Wave.run, [], []
    monkeypatch.setattr("faceattr_udf.spark.enrichment.time", SimpleNamespace(sleep=waited.append))

    def run(wave: Wave, *arguments: Any) -> Any:
        if len(failed) < failures:
            failed.append(wave.name)
            raise EngineGone("a worker is gone\nand much more")
        return real(wave, *arguments)

    monkeypatch.setattr(Wave, "run", run)
    if failures > 2:
        with pytest.raises(EngineError, match=r"the engine failed \(a worker is gone\); what was committed stays"):
            place.run()
        assert [row.state for row in place.engine.read(place.folder / "out" / "runs").collect()] == ["failed"]
        assert not (place.folder / "out" / "_staging").exists()
    assert place.run().n_retries == (0 if failures > 2 else 2)
    assert waited == [1, 2]
    assert len(place.table("faces")) == 9


def test_no_faces_from_a_donor_whose_faces_are_newer_than_its_row(place: Place) -> None:
    place.write([image("m", content(2))])
    place.run()
    # m's faces are replaced, and the run dies before its row says so; then b comes with m's old content.
    place.write([image("m", content(1, "new"))])
    with pytest.raises(Killed):
        place.run(checkpoint=killed_at("faces"))
    place.write([image("m", content(1, "new")), image("b", content(2))])
    place.run()
    assert [row["image_id"] for row in place.table("faces")] == ["b", "b", "m"]


def test_failure_is_recorded_and_leaves_no_staging(place: Place) -> None:
    def fail(point: str) -> None:
        if point == "staged":
            msg = "disk full"
            raise RuntimeError(msg)

    place.write(PICTURES)
    with pytest.raises(RuntimeError, match="disk full"):
        place.run(checkpoint=fail)
    assert [row.state for row in place.engine.read(place.folder / "out" / "runs").collect()] == ["failed"]
    assert not (place.folder / "out" / "_staging").exists()
    assert place.run().n_images == len(PICTURES)


def test_a_store_that_cannot_be_tidied_does_not_fail_the_night(sail_engine: Engine) -> None:
    staging = Staging(sail_engine.session, "nowhere://bucket/out", "run")
    with structlog.testing.capture_logs() as logs:
        staging.clear()
    (warning,) = logs
    assert warning["event"] == "staged files are left; delete them yourself"
    assert warning["folder"] == "nowhere://bucket/out/_staging"


@pytest.mark.connect
def test_images_that_left_are_deleted_when_asked(place: Place) -> None:
    place.write(PICTURES)
    place.run()
    place.write(PICTURES[1:])
    assert place.run().n_deleted_images == 0
    assert "a" in statuses(place)
    assert place.run("enrich.delete_missing=true").n_deleted_images == 1
    assert "a" not in statuses(place)
    assert "a" not in {row["image_id"] for row in place.table("faces")}
    assert len(place.table("faces")) == 7


def test_killed_between_deletions_then_image_comes_back(place: Place) -> None:
    place.write(PICTURES)
    place.run()
    before = place.tables()
    place.write(PICTURES[1:])
    with pytest.raises(Killed):
        place.run("enrich.delete_missing=true", checkpoint=killed_at("deleted"))
    place.write(PICTURES)
    place.run("enrich.delete_missing=true")
    assert place.tables() == before


@pytest.mark.parametrize("hashed", [True, False])
def test_rows_that_share_or_lack_an_id(place: Place, hashed: bool) -> None:
    first, second = sorted([content(1, "x"), content(2, "y")], key=lambda data: sha256(data).hexdigest())
    rows = [image("a", second), image("a", first), image("a", first), image(None, first), image(None, content(3))]
    schema = SCHEMA
    if not hashed:
        rows = [(row[0], row[1], *row[3:]) for row in rows]
        schema = SCHEMA.replace("content_sha256 string, ", "")
    rows.append((None, None, *rows[0][2:]) if not hashed else image(None, None))
    place.write(rows, schema)
    run = place.run()
    assert run.n_duplicate_rows == 2
    assert {row["image_id"]: row["n_faces"] for row in place.table("image_results")} == {
        "a": int(first[:1]),
        f"null-image-id:{sha256(first).hexdigest()}": int(first[:1]),
        f"null-image-id:{sha256(content(3)).hexdigest()}": 3,
        "null-image-id:missing": 0,
    }
    assert len(inferred(place.seen)) == run.n_inferred == 2
    assert place.run().n_images == 0


def test_hash_without_content_is_tried_again_and_does_not_speak_for_others(place: Place) -> None:
    data = content(2)
    digest = sha256(data).hexdigest()
    hollow = ("a", None, digest, "/x/a", NIGHT, 7)
    place.write([hollow, image("b", data), image("c", data)])
    run = place.run()
    assert statuses(place) == {"a": "missing", "b": "ok", "c": "ok"}
    assert run.n_inferred == 1
    assert len(inferred(place.seen)) == 1
    place.write([image("a", data), image("b", data), image("c", data)])
    assert place.run().counts == {"ok": 1}
    assert [row["image_id"] for row in place.table("faces")] == ["a", "a", "b", "b", "c", "c"]


def test_without_consent_nothing_is_looked_at(place: Place) -> None:
    schema = SCHEMA + ", consent boolean"
    yes, no, unknown = (
        (*image(name, content(1, name)), value) for name, value in zip("ynu", (True, False, None), strict=True)
    )
    place.write([yes, no, unknown], schema)
    run = place.run("input.require_consent=true")
    assert statuses(place) == {"y": "ok", "n": "not_consented", "u": "not_consented"}
    assert {row["error"] for row in place.table("image_results")} == {None, "no consent"}
    assert inferred(place.seen) == [sha256(yes[1]).hexdigest()]
    assert run.n_faces == 1
    place.write([(*yes[:-1], False), (*no[:-1], True), unknown], schema)
    place.run("input.require_consent=true")
    assert statuses(place) == {"y": "not_consented", "n": "ok", "u": "not_consented"}
    assert [row["image_id"] for row in place.table("faces")] == ["n"]


def test_plain_parquet_gives_the_same_as_delta(engine: Engine, tmp_path: Path) -> None:
    places = [Place(engine, tmp_path / form) for form in ("delta", "parquet")]
    for place in places:
        place.write(PICTURES, form=place.folder.name)
        place.run()
    assert places[0].tables() == places[1].tables()


@pytest.mark.connect
def test_tables_of_the_catalogue(engine: Engine, tmp_path: Path) -> None:
    database = f"night_{engine.name}"
    names = {name: f"{database}.{name}" for name in ("faces", "image_results", "runs")}
    engine.session.sql(f"CREATE DATABASE IF NOT EXISTS {database}")
    try:
        engine.frame(PICTURES, SCHEMA).write.format("delta").saveAsTable(f"{database}.images")
        config = engine.config(*(f"output.{name}={table}" for name, table in names.items()))
        for expected in (len(PICTURES), 0):
            run = enrich(
                engine.session, config, f"{database}.images", str(tmp_path), provider=provider(tmp_path / "seen")
            )
            assert run.n_images == expected
        assert engine.session.read.table(names["image_results"]).count() == len(PICTURES)
        assert engine.session.read.table(names["faces"]).count() == 9
        assert [path.name for path in tmp_path.iterdir()] == ["seen"]
    finally:
        for table in ("images", *names):
            engine.session.sql(f"DROP TABLE IF EXISTS {database}.{table}")


def test_optional_columns_only_when_asked(place: Place) -> None:
    place.write(PICTURES)
    place.run("output.landmarks=true", "output.crops=true", "output.embeddings=true")
    row = place.table("faces")[0]
    assert row["landmarks"][1] == {"x": 2.0, "y": 3.0}
    assert bytes(row["crop"]) == b"jpeg"
    assert row["embedding"] is None


@pytest.mark.spark
def test_engines_write_equal_tables(
    sail_engine: Engine, spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for found in (sail_engine, spark_engine):
        found.select(monkeypatch)
        place = Place(found, tmp_path / found.name)
        place.write(PICTURES)
        place.run(TWO_WAVES, "enrich.partitions=3")
        written.append(place.tables())
    assert written[0] == written[1]
