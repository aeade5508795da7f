"""`faceattr report`: writes one page about an output folder."""

from pathlib import Path

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.options import PATH, config_options
from faceattr_udf.cli.output_files import check_output_file


@click.command("report", cls=Command)
@click.option("--output", required=True, metavar="FOLDER", help="The folder of the output tables, as in enrich.")
@click.option("--html", "file", required=True, type=PATH, metavar="FILE", help="The page.")
@click.option("--catalog", metavar="NAME", help="Only this catalog.  [default: all]")
@click.option("--month", metavar="YYYY-MM", help="Only this month.  [default: all days]")
@config_options
def command(
    output: str,
    file: Path,
    catalog: str | None,
    month: str | None,
    config_file: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Write one page about who is in the photographs, and how sure that is.

    Reads the tables of marts, drift and enrich, and shows statuses, crowds, ages and genders, counted and corrected
    shares with their intervals, errors by group, quality, abstentions, runs and drift; what is missing is said in one
    sentence. The page has no script and loads nothing. It holds no ids, no photographs, no attribute that the
    configuration does not list, and no cell of fewer than report.min_count faces.

    \b
    Examples:
      faceattr report --output lake --html report.html
      faceattr report --output lake --html shoes.html --catalog shoes --month 2026-03
    """
    from datetime import UTC, datetime

    from faceattr_udf.attributes.predictor import model_record
    from faceattr_udf.config import Config
    from faceattr_udf.logs import configure_logging
    from faceattr_udf.privacy import assess
    from faceattr_udf.report.errors_by_group import measured_groups
    from faceattr_udf.report.inputs import Scope
    from faceattr_udf.report.page import render
    from faceattr_udf.spark.locations import refuse_inside_delta
    from faceattr_udf.spark.report import read_inputs
    from faceattr_udf.spark.session import start

    configure_logging()
    now = datetime.now(UTC)
    config = assess(Config.load(config_file, overrides), now.date()).config
    check_output_file(file, "--html")
    refuse_inside_delta(str(file.absolute()), f"the page {file}", "set --html to another folder")
    record = model_record(config.attributes)
    inputs = read_inputs(start(config), config, output, catalog=catalog, month=month, now=now)
    scope = Scope(
        attributes=config.attributes.predict,
        min_count=config.report.min_count,
        now=now,
        catalog=catalog,
        month=month,
        minors=config.minors.age > 0,
        attribute_model=record.model_version,
        groups=measured_groups(record.measured),
    )
    page = render(inputs, scope)
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(file)
    click.echo(f"{file}: {len(page.encode()) / 1000:.0f} kB")
    for name in inputs.missing:
        click.echo(f"the table {name} is missing; the page says what it lacks")


main = entry_point(command)
