"""`faceattr enrich`: finds the faces of an images table and predicts their attributes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.options import config_options
from faceattr_udf.cli.summary_file import SummaryFile, json_option

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from faceattr_udf.config import Config
    from faceattr_udf.spark.locations import Outputs
    from faceattr_udf.spark.runs import Run


@click.command("enrich", cls=Command)
@click.option("--images", required=True, metavar="TABLE", help="The images table: a path, a URI, or a catalog name.")
@click.option("--output", required=True, metavar="FOLDER", help="The folder of the output tables.")
@json_option
@config_options
def command(
    images: str, output: str, json_file: Path | None, config_file: str | None, overrides: tuple[str, ...]
) -> None:
    """Find the faces of an images table and predict their attributes.

    Writes the Delta tables FOLDER/faces (one row per face), FOLDER/image_results (one row per image) and FOLDER/runs,
    unless the configuration names others. A second run processes only new and changed images.

    \b
    Examples:
      faceattr enrich --images lake/images --output lake
      faceattr enrich --images lake/images --output lake --set detector.min_face_size=40
      faceattr enrich --images shop.images --output lake --config conf/nightly.toml
    """
    from faceattr_udf.cli.progress_bar import progress_bar
    from faceattr_udf.config import Config
    from faceattr_udf.logs import configure_logging
    from faceattr_udf.spark.enrichment import enrich
    from faceattr_udf.spark.file_systems import qualified
    from faceattr_udf.spark.locations import Outputs
    from faceattr_udf.spark.session import start

    configure_logging()
    config = Config.load(config_file, overrides)
    summary = SummaryFile(json_file)
    spark = start(config)
    with progress_bar() as progress:
        run = enrich(spark, config, images, output, progress=progress)
    outputs = Outputs.of(config, qualified(spark, output))
    summarize(run, outputs)
    summary.write("enrich", {**as_data(run, outputs), "drift": _judge_drift(spark, config, output, run)})


def _judge_drift(spark: "SparkSession", config: "Config", output: str, run: "Run") -> dict[str, Any] | None:
    """Prints in one line whether the run has drifted; returns that as plain data, or None where it is not judged."""
    if not config.drift.after_enrich or max(run.n_faces, run.n_images) < config.drift.min_faces:
        return None
    from faceattr_udf.cli import drift
    from faceattr_udf.errors import FaceattrError
    from faceattr_udf.spark.drift import judge_run

    try:
        report = judge_run(spark, config, output, run.run_id)
    except FaceattrError as error:  # the run itself is complete
        click.echo(f"drift: not judged ({error})")
        return None
    click.echo(report.sentence())
    return drift.as_data(report)


def summarize(run: "Run", outputs: "Outputs") -> None:
    """Prints what a run did and where its tables are."""
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(run.counts.items())) or "nothing new"
    click.echo(f"{run.n_images} images in {run.seconds:.1f} s ({run.images_per_second:.2f} images/s): {statuses}")
    click.echo(f"{run.n_faces} faces; inference ran on {run.n_inferred} distinct images")
    if run.n_duplicate_rows:
        click.echo(f"{run.n_duplicate_rows} rows of {run.images} ignored: another row has the same image_id")
    if run.n_deleted_images:
        click.echo(f"{run.n_deleted_images} images deleted: they are no longer in {run.images}")
    if run.n_minors:
        click.echo(
            f"{run.n_minors} faces may be minors' and keep only: {', '.join(run.config.minors.keep) or 'their box'}"
        )
    if run.n_retries:
        click.echo(f"{run.n_retries} retries after engine errors")
    click.echo(f"faces          {outputs.faces}")
    click.echo(f"image_results  {outputs.image_results}")
    click.echo(f"runs           {outputs.runs} (run_id {run.run_id})")


def as_data(run: "Run", outputs: "Outputs") -> dict[str, Any]:
    """Returns a run as plain data, with the names of the columns of the runs table where it has them."""
    from faceattr_udf.sanitize import redacted

    return {
        "run_id": run.run_id,
        "state": run.state,
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "seconds": run.seconds,
        "images": redacted(run.images),
        "n_images": run.n_images,
        "n_faces": run.n_faces,
        "n_inferred": run.n_inferred,
        "n_duplicate_rows": run.n_duplicate_rows,
        "n_deleted_images": run.n_deleted_images,
        "n_retries": run.n_retries,
        "n_minors": run.n_minors if run.config.minors.age else None,
        "policy_sha256": run.assessment.policy.sha256 if run.assessment else None,
        "counts": run.counts,
        "images_per_second": run.images_per_second,
        "config_id": run.config.config_id(),
        "model_version": run.model_version,
        "tables": {name: redacted(str(ref)) for name, ref in outputs.tables.items()},
    }


main = entry_point(command)
