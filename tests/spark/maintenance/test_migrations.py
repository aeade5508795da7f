"""Tables through time: those of every schema version open, migrate by command, and are refused without it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from fakes import face, inferred, provider
from pyspark.sql.types import FloatType, StringType, StructType
from write_golden import CONTENTS, GOLDEN, TABLES

from faceattr_udf.errors import BusyError, SchemaError
from faceattr_udf.spark import runs
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import Outputs, TableRef
from faceattr_udf.spark.maintenance import migrations
from faceattr_udf.spark.maintenance.actions import maintain
from faceattr_udf.spark.maintenance.migrations import AddColumn, DropColumn, RenameColumn, Step, version_of
from faceattr_udf.spark.runs import Run
from faceattr_udf.spark.schemas import IMAGES, SCHEMA_VERSION
from faceattr_udf.spark.tables import Tables
from jobs import enrich as enrich_job
from jobs import maintain as maintain_job

WRITTEN = sorted(path for path in GOLDEN.glob("schema_*/*") if path.is_dir())


class Place:
    """Golden tables, copied, on one engine."""

    def __init__(self, engine: Engine, golden: Path, folder: Path) -> None:
        self.engine, self.folder = engine, folder / "out"
        shutil.copytree(golden, self.folder)
        self.seen = folder / "seen"
        self.tables = Tables(engine.session, engine.name)
        self.refs = Outputs.of(engine.config(), str(self.folder)).tables

    def run(self) -> Run:
        images, output = str(self.folder / "images"), str(self.folder)
        return enrich(self.engine.session, self.engine.config(), images, output, provider=provider(self.seen))

    def migrate(self) -> list[str]:
        done = maintain(self.engine.session, self.engine.config(), str(self.folder), ["migrate"])
        return [str(step) for step in done.steps]

    def columns(self, name: str) -> list[str]:
        return self.engine.read(self.folder / name).columns

    def rows(self, name: str) -> list[dict[str, Any]]:
        rows = [row.asDict(recursive=True) for row in self.engine.read(self.folder / name).collect()]
        return sorted(rows, key=lambda row: (row.get("image_id", ""), row.get("face_index", 0)))

    def rewrite(self, name: str, step: Step) -> None:
        ref = self.refs[name]
        self.tables.rewrite(ref, step.apply(self.tables.read(ref)))


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Place:
    """This version's tables."""
    return Place(engine, GOLDEN / f"schema_{SCHEMA_VERSION}" / engine.name, tmp_path)


@pytest.fixture
def sail_place(sail_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The same on the engine that is fast, for what does not depend on the engine."""
    sail_engine.select(monkeypatch)
    return Place(sail_engine, GOLDEN / f"schema_{SCHEMA_VERSION}" / "sail", tmp_path)


@pytest.mark.parametrize("writer", ["sail", "spark"])
def test_this_schema_version_has_golden_tables(writer: str) -> None:
    assert GOLDEN / f"schema_{SCHEMA_VERSION}" / writer in WRITTEN


@pytest.mark.on_spark(slow=True)
@pytest.mark.parametrize("golden", WRITTEN, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_tables_of_every_version_open(engine: Engine, golden: Path, tmp_path: Path) -> None:
    if engine.name == "spark" and golden.name == "sail":
        pytest.skip("Spark goes on from tables of the embedded engine in test_enrichment.py")
    place = Place(engine, golden, tmp_path)
    version = int(golden.parent.name.removeprefix("schema_"))
    assert min(version_of(place.tables, name, ref) for name, ref in place.refs.items()) == version
    assert bool(place.migrate()) is (version < SCHEMA_VERSION)
    assert place.migrate() == []
    assert place.tables.check(TableRef(str(place.folder / "images"), "delta"), IMAGES)
    # All that the tables said they still say.
    statuses = {row["image_id"]: (row["status"], row["n_faces"]) for row in place.rows("image_results")}
    counts = {name: data[0] - ord("0") for name, data in CONTENTS.items() if data and data[:1].isdigit()}
    assert statuses == {
        **{name: ("ok" if n_faces else "no_face", n_faces) for name, n_faces in counts.items()},
        "d.jpg": ("missing", 0),
        "e.jpg": ("corrupt", 0),
    }
    faces = {(row["image_id"], row["face_index"]): row for row in place.rows("faces")}
    assert faces.keys() == {(name, index) for name, n_faces in counts.items() for index in range(n_faces)}
    for (name, index), row in faces.items():
        expected = face(index, (CONTENTS[name] or b"") + b"fake-1")
        assert row["det_confidence"] == pytest.approx(expected.det_confidence)
        assert row["age"] == (pytest.approx(expected.age.age) if expected.age and expected.age.age else None)
        assert row["gender"] == expected.gender.label  # type: ignore[union-attr]
        assert row["path"] == f"/photos/{name}"
    (run,) = place.rows("runs")
    assert (run["state"], run["n_images"], run["n_faces"], run["schema_version"]) == ("completed", 6, 5, version)
    # And a night goes on with them: z, looked at under another configuration or not, has a's content.
    assert place.run().n_inferred in {0, 4}


def at_version(monkeypatch: pytest.MonkeyPatch, version: int, *steps: Step) -> None:
    """From here on this release writes that version, and these steps lead to it."""
    monkeypatch.setattr(migrations, "STEPS", steps)
    for module in (migrations, runs):
        monkeypatch.setattr(module, "SCHEMA_VERSION", version)


# Steps that lead to this version's columns, so that everything else of this release works with what comes out.
FIRST = RenameColumn("faces", SCHEMA_VERSION + 1, "confidence", "det_confidence")
SECOND = AddColumn("image_results", SCHEMA_VERSION + 2, "error", StringType())
THIRD = AddColumn("runs", SCHEMA_VERSION + 3, "images_per_second", FloatType(), "n_images / 2")
BACK = {
    "faces": RenameColumn("faces", 0, "det_confidence", "confidence"),
    "image_results": DropColumn("image_results", 0, "error"),
    "runs": DropColumn("runs", 0, "images_per_second"),
}


def older(place: Place, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """Makes the tables those of a version three before the one that this release then writes."""
    place.run()  # whatever the configuration has become since the tables were written
    before = {name: place.rows(name) for name in TABLES}
    for name, step in BACK.items():
        place.rewrite(name, step)
    at_version(monkeypatch, SCHEMA_VERSION + 3, FIRST, SECOND, THIRD)
    return before


def test_older_tables_are_refused_and_migrate_by_command(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = older(place, monkeypatch)
    seen, shape = inferred(place.seen), {name: place.columns(name) for name in TABLES}
    arguments = [word for setting in place.engine.settings for word in ("--set", setting)]
    arguments += ["--output", str(place.folder)]
    assert enrich_job.main([*arguments, "--images", str(place.folder / "images")]) == 2
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1] == (
        f"enrich: the tables in {place.folder} have schema version {SCHEMA_VERSION} and this release of faceattr_udf "
        f"writes version {SCHEMA_VERSION + 3}; run python -m jobs.maintain --output {place.folder} migrate, with the "
        "same configuration"
    )
    assert {name: place.columns(name) for name in TABLES} == shape
    assert maintain_job.main([*arguments, "migrate"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "faces: confidence is now called det_confidence",
        "image_results: new column error, NULL in the rows that were there",
        "runs: new column images_per_second, n_images / 2 in the rows that were there",
    ]
    assert place.rows("faces") == before["faces"]
    assert place.rows("image_results") == [{**row, "error": None} for row in before["image_results"]]
    assert all(row["images_per_second"] == row["n_images"] / 2 for row in place.rows("runs"))
    assert len(place.rows("runs")) == len(before["runs"])
    # The night after has nothing to do, and writes rows of the new version.
    assert place.run().n_images == 0
    assert inferred(place.seen) == seen
    assert max(row["schema_version"] for row in place.rows("runs")) == SCHEMA_VERSION + 3
    assert maintain_job.main([*arguments, "migrate"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"the tables already have schema version {SCHEMA_VERSION}"]


def test_no_run_goes_on_while_columns_change(sail_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    older(sail_place, monkeypatch)
    shape = {name: sail_place.columns(name) for name in TABLES}
    with Lease(str(sail_place.folder), "run a", 20), pytest.raises(BusyError, match="is being written by run a"):
        sail_place.migrate()
    assert {name: sail_place.columns(name) for name in TABLES} == shape
    assert len(sail_place.migrate()) == len(TABLES)


def test_a_new_column_takes_values_and_nulls(sail_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    older(sail_place, monkeypatch)
    at_version(
        monkeypatch,
        SCHEMA_VERSION + 2,
        FIRST,
        AddColumn("image_results", SCHEMA_VERSION + 2, "error", StringType(), "'none'"),
        AddColumn("runs", SCHEMA_VERSION + 2, "images_per_second", FloatType(), "0"),
    )
    sail_place.migrate()
    assert {row["error"] for row in sail_place.rows("image_results")} == {"none"}
    # Under another model every row is written again: with an error where there is one, and NULL elsewhere.
    images, output = str(sail_place.folder / "images"), str(sail_place.folder)
    enrich(
        sail_place.engine.session,
        sail_place.engine.config(),
        images,
        output,
        provider=provider(sail_place.seen, "fake-2"),
    )
    assert {row["image_id"]: row["error"] for row in sail_place.rows("image_results") if row["error"]} == {
        "d.jpg": "no content",
        "e.jpg": "not an image",
    }


def test_killed_between_two_tables_migrates_again(sail_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = older(sail_place, monkeypatch)

    def rewrite_once(*arguments: Any) -> None:
        whole(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        whole: Callable[..., None] = Tables.rewrite
        patched.setattr(Tables, "rewrite", rewrite_once)
        with pytest.raises(KeyboardInterrupt):
            sail_place.migrate()
    assert [version_of(sail_place.tables, *item) - SCHEMA_VERSION for item in sail_place.refs.items()] == [3, 1, 2]
    with pytest.raises(SchemaError, match=f"have schema version {SCHEMA_VERSION + 1} and"):
        sail_place.run()
    assert len(sail_place.migrate()) == 2
    assert sail_place.rows("faces") == before["faces"]
    assert sail_place.run().n_images == 0


def test_tables_of_a_later_version_are_refused(sail_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    sail_place.run()
    for action in (sail_place.run, sail_place.migrate):
        with pytest.raises(SchemaError, match=rf"version {SCHEMA_VERSION + 1} and .* install the release that wrote"):
            action()


def test_every_version_is_told_from_its_columns(sail_engine: Engine) -> None:
    """The columns a release had decide, not how many steps there were: names may be added, renamed and dropped."""
    steps: list[Step] = [
        AddColumn("faces", 2, "mood", StringType()),
        RenameColumn("faces", 3, "mood", "emotion"),
        DropColumn("faces", 4, "emotion"),
        RenameColumn("faces", 5, "landmarks", "points"),
    ]
    history = {
        1: ["image_id", "landmarks"],
        2: ["image_id", "landmarks", "mood"],
        3: ["image_id", "landmarks", "emotion"],
        4: ["image_id", "landmarks"],
        5: ["image_id", "points"],
    }
    session = sail_engine.session
    left = {}
    for version, columns in history.items():
        frame = session.createDataFrame([], StructType().add(columns[0], "string"))
        for column in columns[1:]:
            frame = frame.withColumn(column, frame["image_id"])
        with pytest.MonkeyPatch.context() as patched:
            at_version(patched, 5, *steps)
            left[version] = [step.version for step in migrations._pending("faces", frame)]
            at_version(patched, 4, *steps[:3])
            assert (migrations._pending("faces", frame) == []) is (version in {1, 4, 5})
    assert left[3] == [4, 5]
    assert left[2] == [3, 4, 5]
    assert left[5] == []
    # Of versions 1 and 4, which have the same columns, the same comes out.
    assert left[1] == left[4]


def test_steps_are_in_order_lead_here_and_never_use_a_name_again() -> None:
    versions = [step.version for step in migrations.STEPS]
    assert versions == sorted(versions)
    assert max(versions, default=1) == SCHEMA_VERSION
    names = [
        (step.table, step.new if isinstance(step, RenameColumn) else step.name)
        for step in migrations.STEPS
        if isinstance(step, AddColumn | RenameColumn)
    ]
    assert len(names) == len(set(names))
