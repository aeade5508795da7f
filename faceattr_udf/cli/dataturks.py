"""`faceattr dataturks`: converts a DataTurks export to a table of labeled faces."""

import json
from pathlib import Path

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.options import PATH, config_options
from faceattr_udf.cli.output_files import check_output_file


@click.command("dataturks", cls=Command)
@click.option("--export", required=True, type=PATH, metavar="EXPORT.json", help="The export of DataTurks.")
@click.option("--faces", required=True, type=PATH, metavar="FACES.parquet", help="Where the table goes.")
@click.option("--photos", type=PATH, metavar="FOLDER", help="Photographs, named as in the export's addresses.")
@config_options
def command(
    export: Path, faces: Path, photos: Path | None, config_file: str | None, overrides: tuple[str, ...]
) -> None:
    """Convert a DataTurks export to a table of labeled faces.

    train and evaluate read that table. An export holds labels only: with --photos the faces are cropped from the
    photographs, without it the column `image` is null. FACES.json lists rejected rows and the reasons. Of the
    configuration only the section [images] matters here.

    \b
    Examples:
      faceattr dataturks --export demographics.json --faces faces.parquet --photos photos
    """
    import pyarrow.parquet as pq

    from faceattr_udf.config import Config
    from faceattr_udf.datasets.dataturks import read_export

    images = Config.load(config_file, overrides).images
    for file in (faces, faces.with_suffix(".json")):
        check_output_file(file, "--faces")
    table, report = read_export(export, photos, images)
    pq.write_table(table, faces)
    details = {**report.summary(), "where": {"rejected": report.rejected, "noted": report.noted}}
    faces.with_suffix(".json").write_text(json.dumps(details, indent=2) + "\n", encoding="utf-8")
    click.echo(json.dumps(report.summary(), indent=2))


main = entry_point(command)
