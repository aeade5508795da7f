"""Keeps the output tables small and current: many small files become few, what is past is deleted, columns migrate.

    python -m jobs.maintain --output FOLDER [--config FILE] [--set section.key=value ...] ACTION ...

FOLDER and configuration are those of jobs.enrich. The actions, done in the order given:

    compact      joins small files; the rows stay as they are
    vacuum       deletes files that no version of the last maintain.vacuum_hours needs
    prune-runs   deletes rows of runs older than maintain.keep_runs_days that no face or image comes from
    migrate      brings tables of an earlier schema version to this one's columns, while no run is going on

All but migrate may run beside jobs.enrich.
"""

import sys
from collections.abc import Sequence

from faceattr_udf.command_line import configured_parser
from faceattr_udf.config import Config
from faceattr_udf.errors import FaceattrError
from faceattr_udf.spark.enrichment.progress import configure_logging
from faceattr_udf.spark.maintenance.actions import ACTIONS, Maintained, Maintenance, maintain
from faceattr_udf.spark.schemas import SCHEMA_VERSION
from faceattr_udf.spark.session import start


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; 0 on success, 2 when the configuration or a table is wrong."""
    parser = configured_parser("maintain", __doc__)
    parser.add_argument("--output", required=True, metavar="FOLDER")
    parser.add_argument("actions", nargs="+", choices=ACTIONS, metavar="ACTION", help=", ".join(ACTIONS))
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        config = Config.load(arguments.config, arguments.overrides)
        done = maintain(start(config), config, arguments.output, arguments.actions)
    except FaceattrError as error:
        print(f"maintain: {error}", file=sys.stderr)
        return 2
    _summarise(done, arguments.actions)
    return 0


def _summarise(done: Maintenance, actions: Sequence[str]) -> None:
    for step in done.steps:
        print(step)
    if "migrate" in actions and not done.steps:
        print(f"the tables already have schema version {SCHEMA_VERSION}")
    if "prune-runs" in actions:
        print(f"{done.n_runs_deleted} rows of runs deleted")
    if done.tables:
        header = ("table", "files", "size", "files on disk", "size on disk", "versions removed")
        rows = [header, *map(_cells, done.tables)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(table: Maintained) -> tuple[str, ...]:
    before, after = table.before, table.after
    disk = ("?", "?", "?")  # a store that only the engine can list
    if before.disk and after.disk:
        disk = (
            f"{before.disk.files} -> {after.disk.files}",
            f"{_size(before.disk.bytes)} -> {_size(after.disk.bytes)}",
            str(table.versions_removed),
        )
    return table.name, f"{before.files} -> {after.files}", f"{_size(before.bytes)} -> {_size(after.bytes)}", *disk


def _size(n_bytes: int) -> str:
    """A size with its unit.

    >>> _size(0), _size(34_567), _size(5 * 2**30)
    ('0 KiB', '34 KiB', '5120 MiB')
    """
    return f"{n_bytes / 2**20:.0f} MiB" if n_bytes >= 10 * 2**20 else f"{n_bytes / 2**10:.0f} KiB"


if __name__ == "__main__":
    sys.exit(main())
