"""Upkeep on both engines: fewer files and fewer versions, never other rows."""

import os
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from deltalake.exceptions import CommitFailedError
from fakes import content, provider
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.errors import BusyError, ConfigError, EngineError, TableNotFoundError
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.maintenance import delta_ops
from faceattr_udf.spark.maintenance.actions import Action, Maintained, Maintenance, maintain
from faceattr_udf.spark.maintenance.disk_usage import disk_use
from faceattr_udf.spark.retries import commit
from faceattr_udf.spark.runs import Run
from faceattr_udf.spark.tables import Tables
from jobs import maintain as maintain_job

TABLES = ("faces", "image_results", "runs")
AT_ONCE = "maintain.vacuum_hours=0"
WEEK_AGO = (datetime.now(UTC) - timedelta(days=8)).timestamp()


class Place:
    """An images table and the output tables on one engine."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder, self.out = engine, folder, folder / "out"

    def write(self, contents: dict[str, bytes]) -> None:
        frame = self.engine.frame(list(contents.items()), "image_id string, content binary")
        frame.write.format("delta").mode("overwrite").save(str(self.folder / "images"))

    def run(self, *overrides: str, checkpoint: Callable[[str], None] = lambda _: None) -> Run:
        config, images, seen = self.engine.config(*overrides), str(self.folder / "images"), self.folder / "seen"
        return enrich(
            self.engine.session, config, images, str(self.out), provider=provider(seen), checkpoint=checkpoint
        )

    def maintain(self, *actions: Action, settings: tuple[str, ...] = ()) -> Maintenance:
        return maintain(self.engine.session, self.engine.config(*settings), str(self.out), actions)

    def rows(self, name: str) -> list[dict[str, Any]]:
        rows = [row.asDict(recursive=True) for row in self.engine.read(self.out / name).collect()]
        return sorted(rows, key=lambda row: (row.get("image_id", row["run_id"]), row.get("face_index", 0)))

    def all_rows(self) -> list[list[dict[str, Any]]]:
        return [self.rows(name) for name in TABLES]

    def files(self, name: str) -> set[str]:
        return {path.name for path in (self.out / name).glob("*.parquet")}


@pytest.fixture(scope="module")
def two_runs(sail_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs and the row of a third that had nothing to do; to be copied, not to be written to.

    The second replaced what the first said of a and no longer had b. Of c the row of the first run is left. The
    embedded engine wrote them, because engines write equal tables.
    """
    place = Place(sail_engine, tmp_path_factory.mktemp("two_runs"))
    with pytest.MonkeyPatch.context() as patch:
        sail_engine.select(patch)
        place.write({"a": content(2), "b": content(1), "c": b"garbage"})
        place.run()
        place.write({"a": content(1, "new"), "c": b"garbage"})
        second = place.run("enrich.delete_missing=true")
        runs, tables = TableRef(str(place.out / "runs"), "delta"), Tables(sail_engine.session, sail_engine.name)
        last = tables.read(runs).where(F.col("run_id") == second.run_id)
        tables.append(runs, last.withColumn("run_id", F.lit("idle")))
    return place.folder


@pytest.fixture
def place(engine: Engine, tmp_path: Path, two_runs: Path) -> Place:
    """A copy of the two runs."""
    shutil.copytree(two_runs, tmp_path / "place")  # Delta's paths are relative to its table
    return Place(engine, tmp_path / "place")


@pytest.fixture
def sail_place(sail_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Empty, on the engine that is fast."""
    sail_engine.select(monkeypatch)
    return Place(sail_engine, tmp_path)


def by_name(done: Maintenance) -> dict[str, Maintained]:
    return {table.name: table for table in done.tables}


def test_twenty_waves_leave_few_files_and_the_same_rows(sail_place: Place) -> None:
    sail_place.write({f"{index:02}": content(1 + index % 3, str(index)) for index in range(40)})
    sail_place.run("enrich.wave_images=2")
    before = sail_place.all_rows()
    done = by_name(sail_place.maintain("compact"))
    for name in ("faces", "image_results"):
        assert done[name].before.files >= 20
        assert done[name].after.files == 1
        assert done[name].after.bytes < done[name].before.bytes
    assert sail_place.all_rows() == before
    faces = by_name(sail_place.maintain("vacuum", settings=(AT_ONCE,)))["faces"]
    assert faces.before.disk is not None
    assert faces.after.disk is not None
    assert (faces.before.disk.files > 20, faces.after.disk.files) == (True, 1)
    assert faces.versions_removed is not None
    assert faces.versions_removed >= 20
    assert sail_place.all_rows() == before
    assert sail_place.run().n_images == 0


@pytest.mark.on_spark
def test_compaction_changes_no_row_and_leaves_alone_what_is_compact(place: Place) -> None:
    before = place.all_rows()
    done = by_name(place.maintain("compact"))
    assert [table.after.files for table in done.values()] == [1, 1, 1]
    assert [table.versions_removed for table in done.values()] == [0, 0, 0]
    assert place.all_rows() == before
    versions = [len(list((place.out / name / "_delta_log").glob("*.json"))) for name in TABLES]
    place.maintain("compact")
    assert [len(list((place.out / name / "_delta_log").glob("*.json"))) for name in TABLES] == versions
    assert place.run().n_images == 0


def test_upkeep_between_the_commits_of_a_run_changes_nothing(place: Place) -> None:
    points: list[str] = []

    def keep(point: str) -> None:
        points.append(point)
        place.maintain("compact", "vacuum", "prune-runs")

    place.write({"c": content(2), "d": content(1, "d"), "e": content(2, "e")})
    run = place.run("enrich.wave_images=2", "enrich.delete_missing=true", checkpoint=keep)
    assert (points.count("faces"), points.count("deleted")) == (2, 1)
    assert (run.state, run.n_inferred, run.n_deleted_images) == ("completed", 3, 1)
    assert {row["image_id"]: row["n_faces"] for row in place.rows("image_results")} == {"c": 2, "d": 1, "e": 2}
    assert [(row["image_id"], row["face_index"]) for row in place.rows("faces")] == [
        *(("c", 0), ("c", 1), ("d", 0), ("e", 0), ("e", 1))
    ]
    assert len(place.rows("runs")) == 4


@pytest.mark.on_spark
def test_files_are_joined_up_to_the_size_that_is_asked_for(engine: Engine, tmp_path: Path) -> None:
    table = TableRef(str(tmp_path / "t"), "delta")
    tables = Tables(engine.session, engine.name)
    noise = engine.session.range(12_000).select(F.sha2(F.col("id").cast("string"), 512).alias("text"))
    noise.write.format("delta").save(table.location)
    for _ in range(3):
        noise.write.format("delta").mode("append").save(table.location)
    keeper = delta_ops.upkeep(engine.session, engine.name)
    before = keeper.current(table)
    assert before.files >= 4
    keeper.compact(table, before.bytes * 6 // 10)
    assert keeper.current(table).files == 2
    assert tables.read(table).count() == 48_000


@pytest.mark.on_spark
def test_vacuum_keeps_what_recent_versions_need_and_writes_that_go_on(place: Place) -> None:
    before, files = place.all_rows(), place.files("faces")
    old, new = place.out / "faces" / "part-old.snappy.parquet", place.out / "faces" / "part-new.snappy.parquet"
    for path in (old, new):
        path.write_bytes(b"not yet committed")
    os.utime(old, (WEEK_AGO, WEEK_AGO))  # its write was killed
    (table, *_) = place.maintain("vacuum").tables
    assert table.versions_removed == 0
    assert place.files("faces") == files | {new.name}
    earlier = place.engine.session.read.format("delta").option("versionAsOf", 1).load(str(place.out / "faces"))
    assert {row["image_id"] for row in earlier.collect()} == {"a", "b"}
    assert place.all_rows() == before


@pytest.mark.on_spark
def test_the_job_leaves_nothing_on_disk_of_deleted_images(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    before = place.all_rows()
    assert any("b" in texts(path) for path in (place.out / "faces").glob("*.parquet"))
    arguments = ["--output", str(place.out)]
    for setting in (*place.engine.settings, AT_ONCE, "maintain.keep_runs_days=0"):
        arguments += ["--set", setting]
    assert maintain_job.main([*arguments, "compact", "vacuum", "prune-runs"]) == 0
    deleted, header, *lines = capsys.readouterr().out.splitlines()
    assert deleted == "1 rows of runs deleted"
    assert header.split("  ")[0] == "table"
    assert [line.split()[0] for line in lines] == list(TABLES)
    for name, line in zip(TABLES[:2], lines, strict=False):
        assert line.count("-> 1 ") == 2  # files, and files on disk
        assert int(line.split()[-1]) >= 2
        assert not any("b" in texts(path) for path in (place.out / name).glob("*.parquet"))
    assert place.all_rows()[:2] == before[:2]
    assert [row for row in before[2] if row["run_id"] != "idle"] == place.rows("runs")


def texts(path: Path) -> set[str]:
    import pyarrow.parquet as pq

    return set(pq.read_table(path, columns=["image_id"]).column(0).to_pylist())


def test_vacuum_removes_what_killed_runs_have_staged(place: Place) -> None:
    abandoned = place.out / "_staging" / "run-1" / "wave_0" / "faces" / "part-0.parquet"
    going_on = place.out / "_staging" / "run-2" / "pending" / "part-0.parquet"
    for path in (abandoned, going_on):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"faces")
    os.utime(abandoned, (WEEK_AGO, WEEK_AGO))
    place.maintain("vacuum")
    assert not (place.out / "_staging" / "run-1").exists()
    assert going_on.exists()


def test_a_short_vacuum_is_refused_while_a_run_goes_on(place: Place) -> None:
    files = place.files("faces")
    runs = TableRef(str(place.out / "runs"), "delta")
    tables = Tables(place.engine.session, place.engine.name)
    row = tables.read(runs).limit(1).withColumn("state", F.lit("running")).withColumn("run_id", F.lit("run-9"))
    tables.merge(runs, row, ["run_id"])
    with pytest.raises(ConfigError, match=r"vacuum_hours = 0 is below 24 and run run-9 is going on"):
        place.maintain("vacuum", settings=(AT_ONCE,))
    assert place.files("faces") == files
    place.maintain("vacuum", settings=("maintain.vacuum_hours=24",))


def test_runs_are_kept_while_rows_name_them(place: Place) -> None:
    by_start = sorted(place.rows("runs"), key=lambda row: row["started_at"])
    first, second = (row["run_id"] for row in by_start if row["run_id"] != "idle")
    at_once = ("maintain.keep_runs_days=0",)
    assert place.maintain("prune-runs").n_runs_deleted == 0
    assert place.maintain("prune-runs", settings=at_once).n_runs_deleted == 1
    assert {row["run_id"] for row in place.rows("runs")} == {first, second}
    results, c = TableRef(str(place.out / "image_results"), "delta"), [("c",)]
    tables = Tables(place.engine.session, "sail")
    tables.delete(results, place.engine.frame(c, "image_id string"), "image_id")
    assert place.maintain("prune-runs", settings=at_once).n_runs_deleted == 1
    assert [row["run_id"] for row in place.rows("runs")] == [second]


def test_a_compaction_that_loses_against_a_run_is_done_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = [TableRef(str(place.out / name), "delta") for name in TABLES]
    before = place.all_rows()
    keeper = delta_ops.upkeep(place.engine.session, place.engine.name)
    outcomes: Iterator[Exception | None] = iter([RuntimeError("ConcurrentDeleteReadException"), None])

    def attempt(compact: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            outcome = next(outcomes, None)
            if outcome is not None:
                raise outcome
            return compact()

        return run

    monkeypatch.setattr(delta_ops, "commit", lambda table, compact: commit(table, attempt(compact)))
    monkeypatch.setattr("faceattr_udf.spark.retries.time", types.SimpleNamespace(sleep=lambda _: None))
    keeper.compact(refs[1], 2**27)
    assert keeper.current(refs[1]).files == 1
    assert place.all_rows() == before

    outcomes = iter([CommitFailedError("Commit failed: a concurrent transaction deleted data")] * 10)
    with pytest.raises(BusyError, match="is changed by others so often that 10 commits failed"):
        keeper.compact(refs[1], 2**27)


def test_missing_output_folder_is_named_and_not_created(sail_place: Place) -> None:
    with pytest.raises(TableNotFoundError, match=r"none of the tables faces, image_results, runs in .*out"):
        sail_place.maintain("compact")
    assert not sail_place.out.exists()
    assert disk_use("nowhere://bucket/table") is None


def test_what_an_engine_cannot_do_is_said(sail_place: Place) -> None:
    session = sail_place.engine.session
    with pytest.raises(EngineError, match=r"DESCRIBE DETAIL of table /x failed .* must know Delta Lake's own SQL"):
        delta_ops.upkeep(session, "connect").current(TableRef("/x", "delta"))
    with pytest.raises(EngineError, match=r"engine sail does not say where table shop\.faces of the catalogue lies"):
        delta_ops.upkeep(session, "sail").compact(TableRef("shop.faces", "table"), 2**27)


def test_empty_tables(sail_place: Place) -> None:
    sail_place.write({})
    sail_place.run()
    sail_place.maintain("compact", "vacuum", "prune-runs", settings=(AT_ONCE,))
    assert sail_place.rows("faces") == []
    assert len(sail_place.rows("runs")) == 1


@pytest.mark.spark
def test_spark_goes_on_with_what_delta_rs_has_kept(
    sail_engine: Engine, spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sail_engine.select(monkeypatch)
    place = Place(sail_engine, tmp_path)
    place.write({f"{index}": content(1, str(index)) for index in range(6)})
    place.run("enrich.wave_images=2")
    before = place.all_rows()
    place.maintain("compact", "vacuum", settings=(AT_ONCE,))
    spark_engine.select(monkeypatch)
    there = Place(spark_engine, tmp_path)
    assert there.all_rows() == before
    assert there.run().n_images == 0


def test_the_embedded_engine_without_delta_rs(
    sail_place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sail_place.write({"a": content(1)})
    sail_place.run()
    monkeypatch.setitem(sys.modules, "deltalake", None)
    assert maintain_job.main(["--output", str(sail_place.out), "compact"]) == 2
    assert "install the extra faceattr_udf[maintain] or set engine.name=spark" in capsys.readouterr().err
    # What needs no such package works without.
    assert maintain_job.main(["--output", str(sail_place.out), "prune-runs", "migrate"]) == 0
