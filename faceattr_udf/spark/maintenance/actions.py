"""The maintenance actions: compact, vacuum, prune-runs, migrate and layout.

On Spark, a run may write while the first three work: they make Delta commits, or delete files that no recent version
needs. migrate and layout take the same lease as a run, because they change columns and properties. Two more cases take
it: on the embedded engine every action that rewrites rows, and on S3 every action (module `exclusive`).
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, get_args

import structlog
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError, EngineError, TableNotFoundError
from faceattr_udf.spark.engine_errors import explained
from faceattr_udf.spark.enrichment.staging import remove_abandoned
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import MAINTENANCE_LEASE, Outputs, TableRef
from faceattr_udf.spark.maintenance.delta_ops import DeltaOperations, delta_operations
from faceattr_udf.spark.maintenance.disk_usage import DiskUsage, measure_disk_usage
from faceattr_udf.spark.maintenance.exclusive import commits_may_be_lost, exclusive, rewrites_may_collide
from faceattr_udf.spark.maintenance.groups import TableGroup, derived_groups, existing
from faceattr_udf.spark.maintenance.migrations import AddColumn, migrate
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.table_details import TableDetails, change_layout
from faceattr_udf.spark.tables import Tables

Action = Literal["compact", "vacuum", "prune-runs", "migrate", "layout"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

_ALONE: Final = frozenset({"migrate", "layout"})
"""Actions beside which no run may write."""

_REWRITES: Final = frozenset({"compact", "prune-runs"})
"""Actions that write rows of existing files again."""

_FILES: Final = frozenset({"compact", "vacuum"})
"""Actions that change files and no row; they also take the tables of `marts` and `drift`."""

_SORTED_BY: Final = {"faces": "image_id", "image_results": "image_id"}
"""Table -> the column by which merges look for its rows."""

_SAFE_HOURS: Final = 24
"""Hours for which even a slow wave or query may still read a version."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TableSize:
    """The size of a table.

    Attributes:
        files: The number of data files in its current version, which a query reads.
        bytes: Their total size.
        disk: All its files, including those of earlier versions; None where Arrow cannot list them.
    """

    files: int
    bytes: int
    disk: DiskUsage | None


@dataclass(frozen=True)
class TableReport:
    """The effect on one table.

    Attributes:
        name: faces, image_results, runs, drift, or a mart as "marts/NAME".
        before: Its size before the first action.
        after: Its size after the last action.
    """

    name: str
    before: TableSize
    after: TableSize


@dataclass(frozen=True)
class MaintenanceReport:
    """The outcome of `maintain`.

    Attributes:
        tables: The effect of compact and vacuum; empty without them.
        n_runs_deleted: The number of rows that prune-runs deleted.
        steps: The steps that migrate applied.
    """

    tables: tuple[TableReport, ...]
    n_runs_deleted: int
    steps: tuple[AddColumn, ...]


def maintain(spark: SparkSession, config: Config, output: str, actions: Sequence[Action]) -> MaintenanceReport:
    """Maintains the existing output tables.

    Args:
        spark: A session, from `start` or the caller's own.
        config: The configuration; the section `maintain` has the limits of each action.
        output: The folder of the output tables, the same as for `enrich`.
        actions: The actions in the order to run them. "compact" joins small files, "vacuum" deletes files that only old
            versions need, "prune-runs" deletes rows of `runs` that no other table refers to, "migrate" brings
            tables of an earlier schema version to the current one, and "layout" gives tables the layout of new ones.

    Returns:
        The sizes before and after, and what was deleted or migrated.

    Raises:
        ConfigError: An action is unknown.
        BusyError: Other maintenance or an erasure is at work; or a run is in progress and an action needs its lease
            ("migrate" and "layout" always, "compact" and "prune-runs" on the embedded engine, each one on S3).
        FaceattrError: There is no table, the engine lacks an operation, or the action would disturb a run in progress.
    """
    unknown = set(actions) - set(ACTIONS)
    if unknown:
        msg = f"unknown maintenance actions {', '.join(sorted(unknown))}; choose among {', '.join(ACTIONS)}"
        raise ConfigError(msg)
    with adopted(spark, config) as fitting:
        tables = Tables(spark, fitting.engine.name)
        with explained(f"the tables in {output} cannot be maintained", "check their location and the access to them"):
            outputs = Outputs.of(fitting, qualified(spark, output))
            found = existing(tables, outputs.tables)
            if not found:
                names = ", ".join(outputs.tables)
                msg = f"none of the tables {names} exists in {output}; set --output to the folder that enrich wrote to"
                raise TableNotFoundError(msg)
            with Lease(outputs.folder, "jobs.maintain", fitting.runtime.lease_seconds, MAINTENANCE_LEASE):
                return _maintain(tables, fitting, outputs, found, actions)


def _maintain(
    tables: Tables, config: Config, outputs: Outputs, found: dict[str, TableRef], actions: Sequence[Action]
) -> MaintenanceReport:
    hours, operations = config.maintain.vacuum_hours, None
    if {"compact", "vacuum"} & set(actions):
        operations = delta_operations(tables.spark, config.engine.name)
    if "vacuum" in actions and hours < _SAFE_HOURS and "runs" in found:
        _refuse_while_running(tables, outputs.runs, hours)
    # Marts and drift are only compacted and vacuumed: prune-runs has nothing there, and a new build changes columns.
    groups = [TableGroup(outputs.folder, found), *(derived_groups(tables, config, outputs) if operations else ())]
    sized = {name: ref for group in groups for name, ref in group.tables.items()} if operations else {}
    before = {name: _size(operations, ref) for name, ref in sized.items()} if operations else {}
    n_runs_deleted = 0
    steps: list[AddColumn] = []
    alone = _ALONE | (_REWRITES if rewrites_may_collide(config.engine.name) else frozenset())
    if commits_may_be_lost(tables.spark, [outputs.folder, *(ref.location for ref in found.values())]):
        alone = frozenset(actions)
    for action in actions:
        for group in groups if action in _FILES else groups[:1]:
            lease = exclusive(group.folder, action, config.runtime.lease_seconds, group.lease)
            with lease if action in alone else nullcontext():
                if action == "migrate":
                    steps += migrate(tables, outputs.tables, outputs.folder)
                elif action == "prune-runs":
                    n_runs_deleted += _prune_runs(tables, found, config.maintain.keep_runs_days)
                elif action == "layout":
                    _change_layouts(tables, found, config)
                elif operations:
                    _change_files(operations, group, config, action)
        if action == "vacuum":
            for folder in {group.folder for group in groups}:
                remove_abandoned(folder, timedelta(hours=max(hours, _SAFE_HOURS)))
        log.info("maintenance_action_done", action=action, tables=sorted(sized or found))
    after = {name: _size(operations, ref) for name, ref in sized.items()} if operations else {}
    reports = tuple(TableReport(name, before[name], size) for name, size in after.items())
    return MaintenanceReport(reports, n_runs_deleted, tuple(steps))


def _change_files(operations: DeltaOperations, group: TableGroup, config: Config, action: Action) -> None:
    for name, ref in group.tables.items():
        if action == "compact":
            operations.compact(ref, config.maintain.target_file_bytes, _SORTED_BY.get(name))
        else:
            operations.vacuum(ref, config.maintain.vacuum_hours)


def _change_layouts(tables: Tables, refs: Mapping[str, TableRef], config: Config) -> None:
    """Gives existing tables the layout of new ones; files that exist keep theirs until compact writes them again."""
    engine = config.engine.name
    if engine == "sail":
        msg = "engine sail cannot change the layout of a table; set engine.name=spark"
        raise EngineError(msg)
    for name, ref in refs.items():
        details = TableDetails(name, config.output, engine)
        change_layout(tables.spark, ref, details, tables.read(ref).schema)


def _size(operations: DeltaOperations, ref: TableRef) -> TableSize:
    current = operations.current_version(ref)
    return TableSize(current.files, current.bytes, measure_disk_usage(current.location))


def _refuse_while_running(tables: Tables, runs: TableRef, hours: int) -> None:
    running = [row.run_id for row in tables.read(runs).where("state = 'running'").select("run_id").collect()]
    if running:
        msg = (
            f"maintain.vacuum_hours = {hours} is below {_SAFE_HOURS}, and run {running[0]} is in progress and may read "
            "files that would be deleted; wait until it ends, or run jobs.enrich again if it was killed"
        )
        raise ConfigError(msg)


def _prune_runs(tables: Tables, refs: Mapping[str, TableRef], days: int) -> int:
    """Deletes the rows of old runs that no other table refers to.

    Returns:
        The number of deleted rows.
    """
    if "runs" not in refs:
        return 0
    before = datetime.now(UTC) - timedelta(days=days)
    ended = tables.read(refs["runs"]).where((F.col("started_at") < F.lit(before)) & (F.col("state") != "running"))
    run_ids = {row.run_id for row in ended.select("run_id").collect()}
    # Read after the runs, so that everything these runs wrote is committed.
    for name, ref in refs.items():
        if run_ids and name != "runs":
            named = tables.read(ref).where(F.col("run_id").isin(list(run_ids))).select("run_id").distinct()
            run_ids -= {row.run_id for row in named.collect()}
    if run_ids:
        rows = tables.spark.createDataFrame([(run_id,) for run_id in sorted(run_ids)], "run_id string")
        tables.delete(refs["runs"], rows, "run_id")
    return len(run_ids)
