"""`faceattr drift`: tells whether a run's photographs, people or labels differ from those of the nights before."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceattr_udf.cli.entry import ALARM, Command, entry_point
from faceattr_udf.cli.options import config_options
from faceattr_udf.cli.summary_file import SummaryFile, json_option
from faceattr_udf.cli.text_table import text_table

if TYPE_CHECKING:
    from faceattr_udf.drift.nights import NightReport


@click.command("drift", cls=Command)
@click.option("--output", required=True, metavar="FOLDER", help="The folder of the output tables, as in enrich.")
@click.option("--run", "run_id", metavar="RUN", help="The run_id to judge.  [default: the last completed run]")
@click.option(
    "--accept",
    is_flag=True,
    help="The run's change is normal from now on: later nights are compared with this one and those after it.",
)
@click.option("--fail-on-drift", is_flag=True, help="Exit with 3 if the run has drifted.")
@json_option
@config_options
def command(
    output: str,
    run_id: str | None,
    accept: bool,
    fail_on_drift: bool,
    json_file: Path | None,
    config_file: str | None,
    overrides: tuple[str, ...],
) -> int | None:
    """Tell whether a run differs from the nights before it, and how.

    Compares shares of labels, ages, quality, confidence, abstentions and statuses with the completed runs of the same
    model and configuration, and writes the table FOLDER/drift. A night that has drifted does not count as normal for
    later ones, until it is accepted.

    \b
    Kinds of drift:
      photography       the photographs are darker, blurred, smaller, or the model is less sure of the same labels
      mix               other people are in photographs like those before
      model or quality  only the model's confidence has changed
      input             only the statuses of images have changed

    \b
    Examples:
      faceattr drift --output lake
      faceattr drift --output lake --fail-on-drift
      faceattr drift --output lake --run 20261130T010203-0123abcd --accept
    """
    from faceattr_udf.config import Config
    from faceattr_udf.logs import configure_logging
    from faceattr_udf.spark.drift import judge_run
    from faceattr_udf.spark.session import start

    configure_logging()
    config = Config.load(config_file, overrides)
    summary = SummaryFile(json_file)
    report = judge_run(start(config), config, output, run_id, accept=accept)
    click.echo(f"run {report.night.run_id}: {report.night.n_faces} faces, {report.night.n_images} images")
    click.echo(report.sentence())
    if report.alarms:
        click.echo(_table(report))
    summary.write("drift", as_data(report))
    return ALARM if fail_on_drift and report.kind else None


def _table(report: "NightReport") -> str:
    rows = [
        (
            str(key),
            *(f"{number:.4g}" for number in (verdict.value.value, verdict.reference or 0.0)),
            f"{verdict.t:+.1f}",
        )
        for key, verdict in report.alarms.items()
    ]
    return text_table(("value", "tonight", "before", "t"), rows)


def as_data(report: "NightReport") -> dict[str, Any]:
    """Returns a report as plain data."""
    return {
        "run_id": report.night.run_id,
        "kind": report.kind and str(report.kind),
        "reason": report.reason,
        "reference_nights": report.reference_nights,
        "alarms": [
            {
                "metric": key.metric,
                "label": key.label,
                "value": verdict.value.value,
                "reference": verdict.reference,
                "change": verdict.change,
                "t": verdict.t,
            }
            for key, verdict in report.alarms.items()
        ],
    }


main = entry_point(command)
