"""Upkeep of the output tables: few files instead of many, versions and runs of long ago deleted, columns migrated.

Every action is Delta commits, or deletes files that no recent version needs, so that a run may write meanwhile; but for
migrate, whose columns a run of another release would not find: it takes the lease that a run takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, get_args

import structlog
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError, TableNotFoundError
from faceattr_udf.spark.enrichment.staging import remove_abandoned
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import Outputs, TableRef
from faceattr_udf.spark.maintenance.delta_ops import Upkeep, upkeep
from faceattr_udf.spark.maintenance.disk_usage import DiskUse, disk_use
from faceattr_udf.spark.maintenance.migrations import Step, migrate
from faceattr_udf.spark.tables import Tables

Action = Literal["compact", "vacuum", "prune-runs", "migrate"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

_SAFE_HOURS: Final = 24
"""No wave that reads a version, and hardly a query, takes so long."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Layout:
    """How a table lies on disk.

    Attributes:
        files: Of its current version: what a query reads.
        bytes: Of those.
        disk: All its files, those of earlier versions among them; None where only the engine can look.
    """

    files: int
    bytes: int
    disk: DiskUse | None


@dataclass(frozen=True)
class Maintained:
    """One table before and after.

    Attributes:
        name: faces, image_results or runs.
        before: Its layout before the first action.
        after: Its layout after the last.
    """

    name: str
    before: Layout
    after: Layout

    @property
    def versions_removed(self) -> int | None:
        """Versions that could be read before and cannot any more; None where only the engine can look."""
        if self.before.disk is None or self.after.disk is None:
            return None
        return len(self.after.disk.unreadable - self.before.disk.unreadable)


@dataclass(frozen=True)
class Maintenance:
    """What was done.

    Attributes:
        tables: What compact and vacuum did; empty without them.
        n_runs_deleted: Rows that prune-runs deleted.
        steps: What migrate changed.
    """

    tables: tuple[Maintained, ...]
    n_runs_deleted: int
    steps: tuple[Step, ...]


def maintain(spark: SparkSession, config: Config, output: str, actions: Sequence[Action]) -> Maintenance:
    """Does the actions to the output tables that exist.

    Args:
        spark: A session of `config.engine`.
        config: The configuration; `maintain` bounds what is done.
        output: The folder of the output tables, as `enrich` was given it.
        actions: What to do, in this order: "compact" joins small files, "vacuum" deletes files that only versions of
            long ago need, "prune-runs" deletes rows of `runs` that no row of the other tables names, "migrate" brings
            tables of an earlier schema version to this one.

    Raises:
        BusyError: "migrate" was asked for and a run is going on.
        FaceattrError: There is no table, the engine lacks the operation, or a run is going on that it would disturb.
    """
    tables = Tables(spark, config.engine.name)
    outputs = Outputs.of(config, output)
    found = {name: ref for name, ref in outputs.tables.items() if tables.find(ref) is not None}
    if not found:
        names = ", ".join(outputs.tables)
        msg = f"there is none of the tables {names} in {output}; name the --output that jobs.enrich wrote to"
        raise TableNotFoundError(msg)
    hours, keeper = config.maintain.vacuum_hours, None
    if {"compact", "vacuum"} & set(actions):
        keeper = upkeep(spark, config.engine.name)
    if "vacuum" in actions and hours < _SAFE_HOURS and "runs" in found:
        _refuse_while_running(tables, outputs.runs, hours)
    before = {name: _layout(keeper, ref) for name, ref in found.items()} if keeper else {}
    n_runs_deleted, steps = 0, []
    for action in actions:
        if action == "migrate":
            with Lease(outputs.folder, "jobs.maintain migrate", config.runtime.lease_seconds):
                steps += migrate(tables, outputs.tables, output)
        elif action == "prune-runs":
            n_runs_deleted += _prune_runs(tables, found, config.maintain.keep_runs_days)
        elif keeper:
            for ref in found.values():
                if action == "compact":
                    keeper.compact(ref, config.maintain.target_file_bytes)
                else:
                    keeper.vacuum(ref, hours)
        if action == "vacuum":
            remove_abandoned(outputs.folder, timedelta(hours=max(hours, _SAFE_HOURS)))
        log.info("maintained", action=action, tables=sorted(found))
    done = [Maintained(name, before[name], _layout(keeper, ref)) for name, ref in found.items()] if keeper else []
    return Maintenance(tuple(done), n_runs_deleted, tuple(steps))


def _layout(keeper: Upkeep, ref: TableRef) -> Layout:
    current = keeper.current(ref)
    return Layout(current.files, current.bytes, disk_use(current.location))


def _refuse_while_running(tables: Tables, runs: TableRef, hours: int) -> None:
    running = [row.run_id for row in tables.read(runs).where("state = 'running'").select("run_id").collect()]
    if running:
        msg = (
            f"maintain.vacuum_hours = {hours} is below {_SAFE_HOURS} and run {running[0]} is going on, which reads "
            "what would be deleted; wait for its end, or run jobs.enrich once more if it was killed"
        )
        raise ConfigError(msg)


def _prune_runs(tables: Tables, refs: Mapping[str, TableRef], days: int) -> int:
    """Deletes the rows of runs that ended long ago and have no row left in the other tables; returns how many."""
    if "runs" not in refs:
        return 0
    before = datetime.now(UTC) - timedelta(days=days)
    ended = tables.read(refs["runs"]).where((F.col("started_at") < F.lit(before)) & (F.col("state") != "running"))
    run_ids = {row.run_id for row in ended.select("run_id").collect()}
    # Read after the runs: what a run of these has written is committed by now.
    for name, ref in refs.items():
        if run_ids and name != "runs":
            named = tables.read(ref).where(F.col("run_id").isin(list(run_ids))).select("run_id").distinct()
            run_ids -= {row.run_id for row in named.collect()}
    if run_ids:
        rows = tables.spark.createDataFrame([(run_id,) for run_id in sorted(run_ids)], "run_id string")
        tables.delete(refs["runs"], rows, "run_id")
    return len(run_ids)
