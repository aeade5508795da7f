"""`faceattr publish`: publishes people by perceived attributes, without counts of few people."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.options import config_options
from faceattr_udf.cli.summary_file import SummaryFile, json_option

if TYPE_CHECKING:
    from faceattr_udf.spark.publishing.publish import PublishReport


@click.command("publish", cls=Command)
@click.option("--output", required=True, metavar="FOLDER", help="The folder of the output tables, as in enrich.")
@json_option
@config_options
def command(output: str, json_file: Path | None, config_file: str | None, overrides: tuple[str, ...]) -> None:
    """Publish people by perceived attributes, without counts of few people.

    Writes the Delta table FOLDER/published/audience, the only one that is meant for others: people by catalog, month or
    week, and label. Each person counts once. Cells of fewer than publish.k people are suppressed, and others with them,
    so that sums do not give them back.

    A period is published once, when it is over and gets no more faces, and never changes afterwards: otherwise the
    difference of two nights would tell about the people who came or went. Run it after every enrich; most nights it
    writes nothing.

    Needs faceattr_udf[publish].

    \b
    Examples:
      faceattr publish --output lake
      faceattr publish --output lake --set publish.period=week --set publish.k=20
    """
    from faceattr_udf.attributes.predictor import model_record
    from faceattr_udf.config import Config
    from faceattr_udf.logs import configure_logging
    from faceattr_udf.shares.calibration_file import load_calibration
    from faceattr_udf.spark.publishing.publish import publish
    from faceattr_udf.spark.session import start

    configure_logging()
    config = Config.load(config_file, overrides)
    summary = SummaryFile(json_file)
    calibration = load_calibration(model_record(config.attributes), config.attributes.weights)
    report = publish(start(config), config, output, calibration)
    _summarize(report)
    summary.write("publish", asdict(report))


def _summarize(report: "PublishReport") -> None:
    if report.published:
        click.echo(f"{report.table}: published {', '.join(report.published)}")
        click.echo(f"{report.n_cells} cells, {report.n_suppressed} suppressed")
    else:
        click.echo(f"{report.table}: nothing to publish")
    for periods, why in (
        (report.frozen, "published before, unchanged"),
        (report.open, "not over, or faces still come"),
        (report.mixed, "left out: faces of several model versions"),
        (report.few, "left out: too few people"),
    ):
        if periods:
            click.echo(f"{', '.join(periods)}: {why}")
    if not report.has_subjects:
        click.echo("the faces do not name their subjects, so each photograph counts as a person")


main = entry_point(command)
