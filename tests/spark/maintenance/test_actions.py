"""Maintenance on both engines: it leaves fewer files and versions, and the same rows."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from deltalake.exceptions import CommitFailedError
from fakes import content, provider
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.cli.maintain import ACTIONS as COMMAND_ACTIONS
from faceattr_udf.errors import BusyError, ConfigError, EngineError, TableNotFoundError
from faceattr_udf.spark.enrichment import EnrichmentRun
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.maintenance import actions, delta_ops
from faceattr_udf.spark.maintenance.actions import Action, MaintenanceReport, TableReport, maintain
from faceattr_udf.spark.maintenance.disk_usage import measure_disk_usage
from faceattr_udf.spark.retries import commit
from faceattr_udf.spark.runs import Run
from faceattr_udf.spark.tables import Tables
from jobs import maintain as maintain_job

TABLES = ("faces", "image_results", "runs")
AT_ONCE = "maintain.vacuum_hours=0"
WEEK_AGO = (datetime.now(UTC) - timedelta(days=8)).timestamp()


class MaintenanceWorkspace:
    """An images table and the output tables on one engine."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder, self.out = engine, folder, folder / "out"

    def write(self, contents: dict[str, bytes]) -> None:
        frame = self.engine.frame(list(contents.items()), "image_id string, content binary")
        frame.write.format("delta").mode("overwrite").save(str(self.folder / "images"))

    def run(self, *overrides: str, on_step: Callable[[str], None] = lambda _: None) -> Run:
        config, images, seen = self.engine.config(*overrides), str(self.folder / "images"), self.folder / "seen"
        run = EnrichmentRun(
            self.engine.session, config, images, str(self.out), provider=provider(seen), on_step=on_step
        )
        return run.execute()

    def maintain(self, *actions: Action, settings: tuple[str, ...] = ()) -> MaintenanceReport:
        return maintain(self.engine.session, self.engine.config(*settings), str(self.out), actions)

    def rows(self, name: str) -> list[dict[str, Any]]:
        rows = [row.asDict(recursive=True) for row in self.engine.read(self.out / name).collect()]
        return sorted(rows, key=lambda row: (row.get("image_id", row["run_id"]), row.get("face_index", 0)))

    def all_rows(self) -> list[list[dict[str, Any]]]:
        return [self.rows(name) for name in TABLES]

    def commits(self) -> list[int]:
        """Returns the number of entries of each table's log."""
        return [len(list((self.out / name / "_delta_log").glob("*.json"))) for name in TABLES]

    def files(self, name: str) -> set[str]:
        return {path.name for path in (self.out / name).glob("*.parquet")}


@pytest.fixture(scope="module")
def two_runs(sail_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs and the row of a third that had nothing to do. Copy it, do not write to it.

    The second run replaced the rows of a and deleted those of b; the row of c is the first run's. The embedded engine
    wrote the tables, because all engines write equal tables.
    """
    workspace = MaintenanceWorkspace(sail_engine, tmp_path_factory.mktemp("two_runs"))
    with pytest.MonkeyPatch.context() as patch:
        sail_engine.select(patch)
        workspace.write({"a": content(2), "b": content(1), "c": b"garbage"})
        workspace.run()
        workspace.write({"a": content(1, "new"), "c": b"garbage"})
        second = workspace.run("enrich.delete_missing=true")
        runs, tables = TableRef(str(workspace.out / "runs"), "delta"), Tables(sail_engine.session, sail_engine.name)
        last = tables.read(runs).where(F.col("run_id") == second.run_id)
        tables.append(runs, last.withColumn("run_id", F.lit("idle")))
    return workspace.folder


@pytest.fixture
def workspace(engine: Engine, tmp_path: Path, two_runs: Path) -> MaintenanceWorkspace:
    """A copy of the two runs."""
    return copied(two_runs, engine, tmp_path)


@pytest.fixture
def two_runs_on_sail(
    sail_engine: Engine, tmp_path: Path, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> MaintenanceWorkspace:
    """A copy of the two runs on the embedded engine alone."""
    sail_engine.select(monkeypatch)
    return copied(two_runs, sail_engine, tmp_path)


def copied(two_runs: Path, engine: Engine, folder: Path) -> MaintenanceWorkspace:
    shutil.copytree(two_runs, folder / "workspace")  # Delta's paths are relative to its table
    return MaintenanceWorkspace(engine, folder / "workspace")


@pytest.fixture
def sail_workspace(sail_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MaintenanceWorkspace:
    """An empty workspace on the embedded engine, which is fast."""
    sail_engine.select(monkeypatch)
    return MaintenanceWorkspace(sail_engine, tmp_path)


def by_name(report: MaintenanceReport) -> dict[str, TableReport]:
    return {table.name: table for table in report.tables}


def test_compaction_after_twenty_waves(sail_workspace: MaintenanceWorkspace) -> None:
    sail_workspace.write({f"{index:02}": content(1 + index % 3, str(index)) for index in range(40)})
    sail_workspace.run("enrich.wave_images=2")
    before = sail_workspace.all_rows()
    done = by_name(sail_workspace.maintain("compact"))
    for name in ("faces", "image_results"):
        assert done[name].before.files >= 20
        assert done[name].after.files == 1
        assert done[name].after.bytes < done[name].before.bytes
    assert sail_workspace.all_rows() == before
    faces = by_name(sail_workspace.maintain("vacuum", settings=(AT_ONCE,)))["faces"]
    assert faces.before.disk is not None
    assert faces.after.disk is not None
    assert (faces.before.disk.files > 20, faces.after.disk.files) == (True, 1)
    assert sail_workspace.all_rows() == before
    assert sail_workspace.run().n_images == 0


@pytest.mark.on_spark
def test_compaction_changes_no_row_and_is_idempotent(workspace: MaintenanceWorkspace) -> None:
    before = workspace.all_rows()
    done = by_name(workspace.maintain("compact"))
    assert [table.after.files for table in done.values()] == [1, 1, 1]
    for table in done.values():
        assert table.before.disk is not None
        assert table.after.disk is not None
        assert table.after.disk.files >= table.before.disk.files  # earlier versions keep theirs
    assert workspace.all_rows() == before
    commits = workspace.commits()
    workspace.maintain("compact")
    assert workspace.commits() == commits
    assert workspace.run().n_images == 0


def run_and_maintain(workspace: MaintenanceWorkspace, maintain_at: Callable[[str], None]) -> None:
    """Maintains the tables at steps of a run of two waves, and checks the rows at its end."""
    points: list[str] = []

    def on_step(point: str) -> None:
        points.append(point)
        maintain_at(point)

    workspace.write({"c": content(2), "d": content(1, "d"), "e": content(2, "e")})
    run = workspace.run("enrich.wave_images=2", "enrich.delete_missing=true", on_step=on_step)
    assert (points.count("faces"), points.count("deleted")) == (2, 1)
    assert (run.state, run.n_inferred, run.n_deleted_images) == ("completed", 3, 1)
    assert {row["image_id"]: row["n_faces"] for row in workspace.rows("image_results")} == {"c": 2, "d": 1, "e": 2}
    assert [(row["image_id"], row["face_index"]) for row in workspace.rows("faces")] == [
        *(("c", 0), ("c", 1), ("d", 0), ("e", 0), ("e", 1))
    ]
    assert len(workspace.rows("runs")) == 4


def test_on_the_embedded_engine_only_vacuum_works_beside_a_run(two_runs_on_sail: MaintenanceWorkspace) -> None:
    # The engine's MERGE and the deltalake library overlook each other's commits, which would double rows.
    workspace = two_runs_on_sail

    def maintain_at(_: str) -> None:
        commits = workspace.commits()
        for action in ("compact", "prune-runs"):
            with pytest.raises(BusyError, match="is being written by run"):
                workspace.maintain(action)
        assert workspace.commits() == commits
        workspace.maintain("vacuum")

    run_and_maintain(workspace, maintain_at)


@pytest.mark.spark
@pytest.mark.slow
def test_on_spark_maintenance_during_a_run_changes_no_row(
    spark_engine: Engine, tmp_path: Path, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark_engine.select(monkeypatch)
    workspace = copied(two_runs, spark_engine, tmp_path)

    def maintain_at(point: str) -> None:
        if point == "faces":  # between the two commits of a wave
            workspace.maintain("compact", "prune-runs")

    run_and_maintain(workspace, maintain_at)


def test_tables_of_marts_and_drift_are_compacted_under_their_own_leases(
    two_runs_on_sail: MaintenanceWorkspace,
) -> None:
    workspace, sail_engine = two_runs_on_sail, two_runs_on_sail.engine
    derived = ("marts/audience", "drift")
    for name in derived:
        for value in range(3):
            rows = sail_engine.frame([(value,)], "n int")
            rows.write.format("delta").mode("append").save(str(workspace.out / name))
    for folder, lease in (("marts", "_lease"), ("", "_lease_drift"), ("", "_lease_maintain")):
        held = Lease(str(workspace.out / folder), "another job", 60, lease)
        with held, pytest.raises(BusyError, match="another job"):
            workspace.maintain("compact")
    assert not list(workspace.out.glob("_lease*"))
    done = by_name(workspace.maintain("compact", "vacuum", settings=(AT_ONCE,)))
    assert list(done) == [*TABLES, *derived]
    for name in derived:
        assert (done[name].before.files, done[name].after.files) in {(3, 1), (1, 1)}  # one was compacted before
        assert len(list((workspace.out / name).glob("*.parquet"))) == 1
        assert sorted(row.n for row in sail_engine.read(workspace.out / name).collect()) == [0, 1, 2]


@pytest.mark.on_spark
def test_files_are_joined_up_to_the_target_size(engine: Engine, tmp_path: Path) -> None:
    table = TableRef(str(tmp_path / "t"), "delta")
    tables = Tables(engine.session, engine.name)
    noise = engine.session.range(12_000).select(F.sha2(F.col("id").cast("string"), 512).alias("text"))
    noise.write.format("delta").save(table.location)
    for _ in range(3):
        noise.write.format("delta").mode("append").save(table.location)
    operations = delta_ops.delta_operations(engine.session, engine.name)
    before = operations.current_version(table)
    assert before.files >= 4
    operations.compact(table, before.bytes * 6 // 10)
    assert operations.current_version(table).files == 2
    assert tables.read(table).count() == 48_000


@pytest.mark.on_spark
def test_vacuum_keeps_recent_versions_and_open_writes(workspace: MaintenanceWorkspace) -> None:
    before, files = workspace.all_rows(), workspace.files("faces")
    old, new = workspace.out / "faces" / "part-old.snappy.parquet", workspace.out / "faces" / "part-new.snappy.parquet"
    for path in (old, new):
        path.write_bytes(b"not yet committed")
    os.utime(old, (WEEK_AGO, WEEK_AGO))  # its write was killed
    workspace.maintain("vacuum")
    assert workspace.files("faces") == files | {new.name}
    earlier = workspace.engine.session.read.format("delta").option("versionAsOf", 1).load(str(workspace.out / "faces"))
    assert {row["image_id"] for row in earlier.collect()} == {"a", "b"}
    assert workspace.all_rows() == before


@pytest.mark.on_spark
def test_job_removes_deleted_images_from_disk(
    workspace: MaintenanceWorkspace, capsys: pytest.CaptureFixture[str]
) -> None:
    before = workspace.all_rows()
    assert any("b" in texts(path) for path in (workspace.out / "faces").glob("*.parquet"))
    arguments = ["--output", str(workspace.out)]
    for setting in (*workspace.engine.settings, AT_ONCE, "maintain.keep_runs_days=0"):
        arguments += ["--set", setting]
    assert maintain_job.main([*arguments, "compact", "vacuum", "prune-runs"]) == 0
    deleted, header, *lines = capsys.readouterr().out.splitlines()
    assert deleted == "1 rows of runs deleted"
    assert header.split("  ")[0] == "table"
    assert [line.split()[0] for line in lines] == list(TABLES)
    for name, line in zip(TABLES[:2], lines, strict=False):
        assert line.count("-> 1 ") == 2  # files, and files on disk
        assert not any("b" in texts(path) for path in (workspace.out / name).glob("*.parquet"))
    assert workspace.all_rows()[:2] == before[:2]
    assert [row for row in before[2] if row["run_id"] != "idle"] == workspace.rows("runs")


def texts(path: Path) -> set[str]:
    import pyarrow.parquet as pq

    return set(pq.read_table(path, columns=["image_id"]).column(0).to_pylist())


def test_vacuum_removes_staging_of_killed_runs(workspace: MaintenanceWorkspace) -> None:
    abandoned = workspace.out / "_staging" / "run-1" / "wave_0" / "faces" / "part-0.parquet"
    going_on = workspace.out / "_staging" / "run-2" / "pending" / "part-0.parquet"
    for path in (abandoned, going_on):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"faces")
    os.utime(abandoned, (WEEK_AGO, WEEK_AGO))
    workspace.maintain("vacuum")
    assert not (workspace.out / "_staging" / "run-1").exists()
    assert going_on.exists()


def test_short_vacuum_is_refused_during_a_run(workspace: MaintenanceWorkspace) -> None:
    files = workspace.files("faces")
    runs = TableRef(str(workspace.out / "runs"), "delta")
    tables = Tables(workspace.engine.session, workspace.engine.name)
    row = tables.read(runs).limit(1).withColumn("state", F.lit("running")).withColumn("run_id", F.lit("run-9"))
    tables.merge(runs, row, ["run_id"])
    with pytest.raises(ConfigError, match=r"vacuum_hours = 0 is below 24, and run run-9 is in progress"):
        workspace.maintain("vacuum", settings=(AT_ONCE,))
    assert workspace.files("faces") == files
    workspace.maintain("vacuum", settings=("maintain.vacuum_hours=24",))


def test_runs_are_kept_while_rows_refer_to_them(workspace: MaintenanceWorkspace) -> None:
    by_start = sorted(workspace.rows("runs"), key=lambda row: row["started_at"])
    first, second = (row["run_id"] for row in by_start if row["run_id"] != "idle")
    at_once = ("maintain.keep_runs_days=0",)
    assert workspace.maintain("prune-runs").n_runs_deleted == 0
    assert workspace.maintain("prune-runs", settings=at_once).n_runs_deleted == 1
    assert {row["run_id"] for row in workspace.rows("runs")} == {first, second}
    results, c = TableRef(str(workspace.out / "image_results"), "delta"), [("c",)]
    tables = Tables(workspace.engine.session, "sail")
    tables.delete(results, workspace.engine.frame(c, "image_id string"), "image_id")
    assert workspace.maintain("prune-runs", settings=at_once).n_runs_deleted == 1
    assert [row["run_id"] for row in workspace.rows("runs")] == [second]


def test_compaction_is_retried_after_a_conflict(
    workspace: MaintenanceWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = [TableRef(str(workspace.out / name), "delta") for name in TABLES]
    before = workspace.all_rows()
    operations = delta_ops.delta_operations(workspace.engine.session, workspace.engine.name)
    outcomes: Iterator[Exception | None] = iter([RuntimeError("ConcurrentDeleteReadException"), None])

    def attempt(compact: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            outcome = next(outcomes, None)
            if outcome is not None:
                raise outcome
            return compact()

        return run

    monkeypatch.setattr(delta_ops, "commit", lambda table, compact: commit(table, attempt(compact)))
    monkeypatch.setattr("faceattr_udf.spark.retries.sleep", lambda _: None)
    operations.compact(refs[1], 2**27)
    assert operations.current_version(refs[1]).files == 1
    assert workspace.all_rows() == before

    outcomes = iter([CommitFailedError("Commit failed: a concurrent transaction deleted data")] * 10)
    with pytest.raises(BusyError, match="is being changed by other writers, and 10 commits failed"):
        operations.compact(refs[1], 2**27)


def test_missing_output_folder_is_named_and_not_created(sail_workspace: MaintenanceWorkspace) -> None:
    with pytest.raises(TableNotFoundError, match=r"none of the tables faces, image_results, runs exists in .*out"):
        sail_workspace.maintain("compact")
    assert not sail_workspace.out.exists()
    assert measure_disk_usage("nowhere://bucket/table") is None


def test_missing_engine_operation_is_named(sail_workspace: MaintenanceWorkspace) -> None:
    session = sail_workspace.engine.session
    with pytest.raises(
        EngineError, match=r"DESCRIBE DETAIL of table /x failed .*; use an engine that has Delta Lake's SQL"
    ):
        delta_ops.delta_operations(session, "connect").current_version(TableRef("/x", "delta"))
    with pytest.raises(EngineError, match=r"engine sail cannot locate the catalog table shop\.faces"):
        delta_ops.delta_operations(session, "sail").compact(TableRef("shop.faces", "table"), 2**27)


def test_empty_tables(sail_workspace: MaintenanceWorkspace) -> None:
    sail_workspace.write({})
    sail_workspace.run()
    sail_workspace.maintain("compact", "vacuum", "prune-runs", settings=(AT_ONCE,))
    assert sail_workspace.rows("faces") == []
    assert len(sail_workspace.rows("runs")) == 1


@pytest.mark.spark
def test_spark_reads_tables_maintained_by_delta_rs(
    sail_engine: Engine, spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sail_engine.select(monkeypatch)
    workspace = MaintenanceWorkspace(sail_engine, tmp_path)
    workspace.write({f"{index}": content(1, str(index)) for index in range(6)})
    workspace.run("enrich.wave_images=2")
    before = workspace.all_rows()
    workspace.maintain("compact", "vacuum", settings=(AT_ONCE,))
    spark_engine.select(monkeypatch)
    there = MaintenanceWorkspace(spark_engine, tmp_path)
    assert there.all_rows() == before
    assert there.run().n_images == 0


def test_sail_without_delta_rs(
    sail_workspace: MaintenanceWorkspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sail_workspace.write({"a": content(1)})
    sail_workspace.run()
    monkeypatch.setitem(sys.modules, "deltalake", None)
    assert maintain_job.main(["--output", str(sail_workspace.out), "compact"]) == 2
    assert "install the extra faceattr_udf[maintain] or set engine.name=spark" in capsys.readouterr().err
    # Actions that do not need the package work without it.
    assert maintain_job.main(["--output", str(sail_workspace.out), "prune-runs", "migrate"]) == 0


def test_unknown_action_is_refused(sail_engine: Engine, tmp_path: Path) -> None:
    unknown: Any = ["compact", "polish"]
    with pytest.raises(ConfigError, match="unknown maintenance actions polish; choose among compact, vacuum"):
        maintain(sail_engine.session, sail_engine.config(), str(tmp_path), unknown)


def test_command_offers_every_action() -> None:
    assert COMMAND_ACTIONS == actions.ACTIONS
