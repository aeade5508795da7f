"""`faceattr marts`: counts faces by day and corrects shares of perceived attributes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.options import config_options
from faceattr_udf.cli.summary_file import SummaryFile, json_option

if TYPE_CHECKING:
    from faceattr_udf.spark.marts.build import MartsReport


@click.command("marts", cls=Command)
@click.option("--output", required=True, metavar="FOLDER", help="The folder of the output tables, as in enrich.")
@json_option
@config_options
def command(output: str, json_file: Path | None, config_file: str | None, overrides: tuple[str, ...]) -> None:
    """Count faces by day, and correct shares of perceived attributes.

    Writes small Delta tables below FOLDER/marts, for reports and dashboards: audience, photographs, coverage, shares,
    and the sums that SQL corrects for any other selection. Run it after every enrich: only days with changes are built
    again, and without changes nothing is written.

    Shares are corrected for the confusions of the configured model, with 95 % intervals. Weights of your own need
    statistics from `faceattr evaluate --quantify`; without them shares stay raw.

    \b
    Examples:
      faceattr marts --output lake
      faceattr marts --output lake --set marts.catalog=brand --set 'marts.slices=["season"]'
    """
    from faceattr_udf.attributes.predictor import model_record
    from faceattr_udf.config import Config
    from faceattr_udf.logs import configure_logging
    from faceattr_udf.shares.calibration_file import load_calibration
    from faceattr_udf.spark.marts.build import build_marts
    from faceattr_udf.spark.session import start

    configure_logging()
    config = Config.load(config_file, overrides)
    summary = SummaryFile(json_file)
    calibration = load_calibration(model_record(config.attributes), config.attributes.weights)
    report = build_marts(start(config), config, output, calibration)
    _summarize(report)
    summary.write("marts", _as_data(report))


def _summarize(report: "MartsReport") -> None:
    built = f"{len(report.days)} of {report.n_days} days built" if report.days else "nothing has changed"
    click.echo(f"{report.folder}: {built}")
    if report.uncorrected:
        versions = ", ".join(report.uncorrected)
        click.echo(f"shares of {versions} are raw, because these weights have no statistics of their confusions")
    if report.views:
        click.echo(f"views created or replaced: {', '.join(report.views)}")


def _as_data(report: "MartsReport") -> dict[str, Any]:
    return {
        "folder": report.folder,
        "days": report.days,
        "n_days": report.n_days,
        "uncorrected": report.uncorrected,
        "views": report.views,
    }


main = entry_point(command)
