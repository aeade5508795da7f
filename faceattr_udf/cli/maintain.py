"""`faceattr maintain`: compacts, vacuums, prunes and changes the output tables."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.options import config_options
from faceattr_udf.cli.summary_file import SummaryFile, json_option
from faceattr_udf.cli.text_table import text_table

if TYPE_CHECKING:
    from faceattr_udf.spark.maintenance.actions import Action, MaintenanceReport, TableReport

ACTIONS = ("compact", "vacuum", "prune-runs", "migrate", "layout")


@click.command("maintain", cls=Command)
@click.option("--output", required=True, metavar="FOLDER", help="The folder of the output tables, as in enrich.")
@click.argument("actions", nargs=-1, required=True, type=click.Choice(ACTIONS), metavar="ACTION...")
@json_option
@config_options
def command(
    output: str,
    actions: "tuple[Action, ...]",
    json_file: Path | None,
    config_file: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Compact, vacuum, prune and change the output tables.

    \b
    compact and vacuum also take the tables of marts and drift. Actions, done in the order given:
      compact     join small files, on Spark in the order of image_id; the rows stay the same
      vacuum      take deleted rows out of files, and delete files that no table version of the last
                  maintain.vacuum_hours needs
      prune-runs  delete rows of runs older than maintain.keep_runs_days that no face or image names
      migrate     bring tables of an earlier schema version to the current columns
      layout      give tables of an earlier release the layout of new ones (output.deletion_vectors); Spark only

    migrate and layout must not run at the same time as enrich, nor compact and prune-runs on the embedded
    engine, nor any action on S3; none waits for another: exit code 4.

    \b
    Examples:
      faceattr maintain --output lake compact vacuum prune-runs
      faceattr maintain --output lake migrate
    """
    from faceattr_udf.config import Config
    from faceattr_udf.logs import configure_logging
    from faceattr_udf.spark.maintenance import maintain
    from faceattr_udf.spark.session import start

    configure_logging()
    config = Config.load(config_file, overrides)
    summary = SummaryFile(json_file)
    done = maintain(start(config), config, output, actions)
    _summarize(done, actions)
    summary.write("maintain", _as_data(done, actions))


def _as_data(done: "MaintenanceReport", actions: tuple[str, ...]) -> dict[str, Any]:
    return {
        "actions": actions,
        "tables": {table.name: {"before": asdict(table.before), "after": asdict(table.after)} for table in done.tables},
        "n_runs_deleted": done.n_runs_deleted,
        "steps": [str(step) for step in done.steps],
    }


def _summarize(done: "MaintenanceReport", actions: tuple[str, ...]) -> None:
    from faceattr_udf.spark.schemas import SCHEMA_VERSION

    for step in done.steps:
        click.echo(step)
    if "migrate" in actions and not done.steps:
        click.echo(f"the tables already have schema version {SCHEMA_VERSION}")
    if "prune-runs" in actions:
        click.echo(f"{done.n_runs_deleted} rows of runs deleted")
    if done.tables:
        header = ("table", "files", "size", "files on disk", "size on disk")
        click.echo(text_table(header, [_cells(table) for table in done.tables]))


def _cells(table: "TableReport") -> tuple[str, ...]:
    before, after = table.before, table.after
    disk = ("?", "?")  # a store that only the engine can list
    if before.disk and after.disk:
        disk = (
            f"{before.disk.files} -> {after.disk.files}",
            f"{_size(before.disk.bytes)} -> {_size(after.disk.bytes)}",
        )
    return table.name, f"{before.files} -> {after.files}", f"{_size(before.bytes)} -> {_size(after.bytes)}", *disk


def _size(n_bytes: int) -> str:
    """Returns a size with its unit.

    >>> _size(0), _size(34_567), _size(5 * 2**30)
    ('0 KiB', '34 KiB', '5120 MiB')
    """
    return f"{n_bytes / 2**20:.0f} MiB" if n_bytes >= 10 * 2**20 else f"{n_bytes / 2**10:.0f} KiB"


main = entry_point(command)
