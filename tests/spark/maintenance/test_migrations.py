"""Schema migrations: tables of every schema version open, are migrated by command, and are refused before."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from fakes import face, inferred, provider
from pyspark.sql.types import FloatType, StringType
from write_golden import CONTENTS, GOLDEN, TABLES

from faceattr_udf.errors import BusyError, SchemaError
from faceattr_udf.spark import runs
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import Outputs, TableRef
from faceattr_udf.spark.maintenance import migrations
from faceattr_udf.spark.maintenance.actions import maintain
from faceattr_udf.spark.maintenance.migrations import AddColumn, version_of
from faceattr_udf.spark.runs import Run
from faceattr_udf.spark.schemas import IMAGES, SCHEMA_VERSION
from faceattr_udf.spark.tables import Tables
from jobs import enrich as enrich_job
from jobs import maintain as maintain_job

WRITTEN = sorted(path for path in GOLDEN.glob("schema_*/*") if path.is_dir())


class MigrationWorkspace:
    """A copy of golden tables on one engine."""

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

    def drop_column(self, name: str, column: str) -> None:
        ref = self.refs[name]
        self.tables.rewrite(ref, self.tables.read(ref).drop(column))


@pytest.fixture
def workspace(engine: Engine, tmp_path: Path) -> MigrationWorkspace:
    """Tables of the current schema version."""
    return MigrationWorkspace(engine, GOLDEN / f"schema_{SCHEMA_VERSION}" / engine.name, tmp_path)


@pytest.fixture
def sail_workspace(sail_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MigrationWorkspace:
    """The same on the embedded engine, which is fast, for code that does not depend on the engine."""
    sail_engine.select(monkeypatch)
    return MigrationWorkspace(sail_engine, GOLDEN / f"schema_{SCHEMA_VERSION}" / "sail", tmp_path)


@pytest.mark.parametrize("writer", ["sail", "spark"])
def test_current_schema_version_has_golden_tables(writer: str) -> None:
    assert GOLDEN / f"schema_{SCHEMA_VERSION}" / writer in WRITTEN


@pytest.mark.on_spark(slow=True)
@pytest.mark.parametrize("golden", WRITTEN, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_tables_of_every_version_open(engine: Engine, golden: Path, tmp_path: Path) -> None:
    if engine.name == "spark" and golden.name == "sail":
        pytest.skip("enrichment/test_run.py continues on Spark with tables of the embedded engine")
    workspace = MigrationWorkspace(engine, golden, tmp_path)
    version = int(golden.parent.name.removeprefix("schema_"))
    assert min(version_of(workspace.tables, name, ref) for name, ref in workspace.refs.items()) == version
    assert bool(workspace.migrate()) is (version < SCHEMA_VERSION)
    assert workspace.migrate() == []
    assert workspace.tables.check(TableRef(str(workspace.folder / "images"), "delta"), IMAGES)
    # The rows are unchanged.
    statuses = {row["image_id"]: (row["status"], row["n_faces"]) for row in workspace.rows("image_results")}
    counts = {name: data[0] - ord("0") for name, data in CONTENTS.items() if data and data[:1].isdigit()}
    assert statuses == {
        **{name: ("ok" if n_faces else "no_face", n_faces) for name, n_faces in counts.items()},
        "d.jpg": ("missing", 0),
        "e.jpg": ("corrupt", 0),
    }
    faces = {(row["image_id"], row["face_index"]): row for row in workspace.rows("faces")}
    assert faces.keys() == {(name, index) for name, n_faces in counts.items() for index in range(n_faces)}
    for (name, index), row in faces.items():
        expected = face(index, (CONTENTS[name] or b"") + b"fake-1")
        assert row["det_confidence"] == pytest.approx(expected.det_confidence)
        assert row["age"] == (pytest.approx(expected.age.age) if expected.age and expected.age.age else None)
        assert row["gender"] == expected.gender.label  # type: ignore[union-attr]
        assert row["path"] == f"/photos/{name}"
    (run,) = workspace.rows("runs")
    assert (run["state"], run["n_images"], run["n_faces"], run["schema_version"]) == ("completed", 6, 5, version)
    # A run continues with them. If the configuration has changed since, it infers four images: z has a's content.
    assert workspace.run().n_inferred in {0, 4}


def at_version(monkeypatch: pytest.MonkeyPatch, version: int, *steps: AddColumn) -> None:
    """Makes this release write a schema version, with the steps that lead to it."""
    monkeypatch.setattr(migrations, "STEPS", steps)
    for module in (migrations, runs):
        monkeypatch.setattr(module, "SCHEMA_VERSION", version)


# The steps lead to the current columns, so that the rest of this release works with the migrated tables.
FIRST = AddColumn("faces", SCHEMA_VERSION + 1, "det_confidence", FloatType(), "face_index / 2")
SECOND = AddColumn("image_results", SCHEMA_VERSION + 2, "error", StringType())
THIRD = AddColumn("runs", SCHEMA_VERSION + 3, "images_per_second", FloatType(), "n_images / 2")
STEPS = (FIRST, SECOND, THIRD)


def make_older(workspace: MigrationWorkspace, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """Makes the tables three versions older than the version that this release then writes."""
    workspace.run()  # the configuration may have changed since the golden tables were written
    before = {name: workspace.rows(name) for name in TABLES}
    for step in STEPS:
        workspace.drop_column(step.table, step.name)
    at_version(monkeypatch, SCHEMA_VERSION + 3, *STEPS)
    return before


def test_older_tables_are_refused_until_migrated(
    workspace: MigrationWorkspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = make_older(workspace, monkeypatch)
    seen, shape = inferred(workspace.seen), {name: workspace.columns(name) for name in TABLES}
    arguments = [word for setting in workspace.engine.settings for word in ("--set", setting)]
    arguments += ["--output", str(workspace.folder)]
    assert enrich_job.main([*arguments, "--images", str(workspace.folder / "images")]) == 2
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1] == (
        f"enrich: the tables in {workspace.folder} have schema version {SCHEMA_VERSION} and this release of "
        f"faceattr_udf writes version {SCHEMA_VERSION + 3}; run python -m jobs.maintain --output {workspace.folder} "
        "migrate, with the same configuration"
    )
    assert {name: workspace.columns(name) for name in TABLES} == shape
    assert maintain_job.main([*arguments, "migrate"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "faces: new column det_confidence, face_index / 2 in existing rows",
        "image_results: new column error, NULL in existing rows",
        "runs: new column images_per_second, n_images / 2 in existing rows",
    ]
    faces = [{**row, "det_confidence": row["face_index"] / 2} for row in before["faces"]]
    assert workspace.rows("faces") == faces
    assert workspace.rows("image_results") == [{**row, "error": None} for row in before["image_results"]]
    assert all(row["images_per_second"] == row["n_images"] / 2 for row in workspace.rows("runs"))
    assert len(workspace.rows("runs")) == len(before["runs"])
    # The next run has nothing to do, and its row has the new version.
    assert workspace.run().n_images == 0
    assert inferred(workspace.seen) == seen
    assert max(row["schema_version"] for row in workspace.rows("runs")) == SCHEMA_VERSION + 3
    assert maintain_job.main([*arguments, "migrate"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"the tables already have schema version {SCHEMA_VERSION}"]


def test_migration_is_refused_during_a_run(sail_workspace: MigrationWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make_older(sail_workspace, monkeypatch)
    shape = {name: sail_workspace.columns(name) for name in TABLES}
    with Lease(str(sail_workspace.folder), "run a", 20), pytest.raises(BusyError, match="is being written by run a"):
        sail_workspace.migrate()
    assert {name: sail_workspace.columns(name) for name in TABLES} == shape
    assert len(sail_workspace.migrate()) == len(TABLES)


def test_new_column_takes_values_and_nulls(sail_workspace: MigrationWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make_older(sail_workspace, monkeypatch)
    constant = AddColumn("image_results", SCHEMA_VERSION + 2, "error", StringType(), "'none'")
    at_version(monkeypatch, SCHEMA_VERSION + 3, FIRST, constant, THIRD)
    sail_workspace.migrate()
    assert {row["error"] for row in sail_workspace.rows("image_results")} == {"none"}
    # Another model writes every row again: with an error where there is one, and NULL elsewhere.
    images, output = str(sail_workspace.folder / "images"), str(sail_workspace.folder)
    enrich(
        sail_workspace.engine.session,
        sail_workspace.engine.config(),
        images,
        output,
        provider=provider(sail_workspace.seen, "fake-2"),
    )
    assert {row["image_id"]: row["error"] for row in sail_workspace.rows("image_results") if row["error"]} == {
        "d.jpg": "no content",
        "e.jpg": "not an image",
    }


def test_migration_continues_after_a_kill(sail_workspace: MigrationWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_older(sail_workspace, monkeypatch)
    rewrite: Callable[..., None] = Tables.rewrite

    def rewrite_once(*arguments: Any) -> None:
        rewrite(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Tables, "rewrite", rewrite_once)
        with pytest.raises(KeyboardInterrupt):
            sail_workspace.migrate()
    versions = [version_of(sail_workspace.tables, *item) for item in sail_workspace.refs.items()]
    assert versions == [SCHEMA_VERSION + 3, SCHEMA_VERSION + 1, SCHEMA_VERSION + 2]
    with pytest.raises(SchemaError, match=f"have schema version {SCHEMA_VERSION + 1} and"):
        sail_workspace.run()
    assert len(sail_workspace.migrate()) == 2
    assert len(sail_workspace.rows("faces")) == len(before["faces"])
    assert sail_workspace.run().n_images == 0


def test_tables_of_a_later_version_are_refused(
    sail_workspace: MigrationWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    sail_workspace.run()
    for action in (sail_workspace.run, sail_workspace.migrate):
        with pytest.raises(SchemaError, match=rf"version {SCHEMA_VERSION + 1} and .* install the release that wrote"):
            action()


def test_steps_are_in_order_and_never_reuse_a_name() -> None:
    versions = [step.version for step in migrations.STEPS]
    assert versions == sorted(versions)
    assert max(versions, default=1) == SCHEMA_VERSION
    names = [(step.table, step.name) for step in migrations.STEPS]
    assert len(names) == len(set(names))
