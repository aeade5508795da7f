"""`faceattr ingest`: writes the images of a folder to an images table."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.options import config_options
from faceattr_udf.cli.summary_file import SummaryFile, json_option

if TYPE_CHECKING:
    from faceattr_udf.config import Config
    from faceattr_udf.spark.ingestion import IngestReport


_LISTED_SUFFIXES: Final = 8
"""Suffixes of left-out files that the summary names; a folder may have any number of them."""


@click.command("ingest", cls=Command)
@click.option(
    "--input", "folder", required=True, metavar="FOLDER", help="Images: a path or a URI; subfolders are included."
)
@click.option("--images", required=True, metavar="TABLE", help="The images table: a path, a URI, or a catalog name.")
@click.option(
    "--format",
    "table_format",
    type=click.Choice(["delta", "parquet"]),
    default="delta",
    show_default=True,
    help="Format of a table that does not exist yet.",
)
@json_option
@config_options
def command(
    folder: str,
    images: str,
    table_format: Literal["delta", "parquet"],
    json_file: Path | None,
    config_file: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Write the images of a folder to an images table.

    The image_id is the path relative to the folder. A second run adds new files and replaces changed ones.

    \b
    Examples:
      faceattr ingest --input photos --images lake/images
      faceattr ingest --input s3://bucket/photos --images s3://bucket/lake/images
      faceattr ingest --input photos --images shop.images --set engine.name=spark
    """
    from faceattr_udf.config import Config
    from faceattr_udf.logs import configure_logging
    from faceattr_udf.sanitize import redacted
    from faceattr_udf.spark.ingestion import ingest
    from faceattr_udf.spark.session import start

    configure_logging()
    config = Config.load(config_file, overrides)
    summary = SummaryFile(json_file)
    done = ingest(start(config), config, folder, images, table_format)
    summarize(done, config)
    summary.write("ingest", {**vars(done), "table": redacted(str(done.table)), "format": done.table.format})


def summarize(done: "IngestReport", config: "Config") -> None:
    """Prints what an ingestion wrote."""
    click.echo(
        f"{done.new} new, {done.changed} changed, {done.unchanged} unchanged images; "
        f"{done.bytes_written / 2**20:.1f} MiB written to {done.table} ({done.table.format})"
    )
    if done.too_large:
        limit = config.images.max_bytes
        click.echo(f"{done.too_large} images without content, because they exceed images.max_bytes = {limit}")
    for reason, count in sorted(done.refused.items()):
        click.echo(f"{count} files refused: {reason}")
    if done.left_out:
        kinds = sorted(done.left_out.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in kinds[:_LISTED_SUFFIXES])
        more = f", {len(kinds) - _LISTED_SUFFIXES} other suffixes" if len(kinds) > _LISTED_SUFFIXES else ""
        click.echo(f"{sum(done.left_out.values())} files left out, which are no images: {listed}{more}")
    if done.system:
        click.echo(f"{done.system} system files and folders skipped (ingest.skip_system_files)")
    if done.excluded:
        click.echo(f"{done.excluded} files excluded by ingest.include and ingest.exclude")


main = entry_point(command)
