"""`faceattr erase`: erases images from tables, files and logs, and proves it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.id_file import read_some_ids
from faceattr_udf.cli.options import PATH, config_options
from faceattr_udf.cli.summary_file import SummaryFile, json_option

if TYPE_CHECKING:
    from faceattr_udf.spark.erasure.certificate import Certificate


@click.command("erase", cls=Command)
@click.option("--output", required=True, metavar="FOLDER", help="The folder of the output tables, as in enrich.")
@click.option("--images", metavar="TABLE", help="The images table, a Delta table; its rows are deleted, too.")
@click.option("--image-ids", type=PATH, metavar="FILE", help="A text file (UTF-8) with one image_id per line.")
@click.option("--subject-ids", type=PATH, metavar="FILE", help="The same with subjects; all their images are erased.")
@click.option("--due", is_flag=True, help="Erase what nights left: past privacy.retention_days, or consent withdrawn.")
@click.option(
    "--copies",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="How many other images with the same contents may go, too; more are refused, because it may be a placeholder.",
)
@json_option
@config_options
def command(
    output: str,
    images: str | None,
    image_ids: Path | None,
    subject_ids: Path | None,
    due: bool,
    copies: int,
    json_file: Path | None,
    config_file: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Erase images from tables, files and logs, and prove it.

    Tombstones first, so that no night derives anything of these images again; then the rows of these images and of all
    with the same content, what is staged, and the days of the marts. Then old files and log entries are deleted, and
    every file that remains is opened and searched. A certificate without ids says what was searched, and what nobody
    could look at. After a kill, run the same command again.

    It needs privacy.key_file, a file outside of the tables; back it up. Readers of older versions of the tables fail.
    Ids come from a file, because others can see the command line. Run --due after every enrich.

    \b
    Examples:
      faceattr erase --output lake --images lake/images --image-ids ids.txt --set privacy.key_file=erasure.key
      faceattr erase --output lake --due --config nightly.toml
    """
    from faceattr_udf.attributes.predictor import model_record
    from faceattr_udf.config import Config
    from faceattr_udf.logs import configure_logging
    from faceattr_udf.shares.calibration_file import load_calibration
    from faceattr_udf.spark.erasure import Wish, erase
    from faceattr_udf.spark.session import start

    if sum((image_ids is not None, subject_ids is not None, due)) != 1:
        msg = "name one of --image-ids, --subject-ids and --due"
        raise click.UsageError(msg)
    configure_logging()
    config = Config.load(config_file, overrides)
    summary = SummaryFile(json_file)
    wish = Wish(
        image_ids=read_some_ids(image_ids, "--image-ids") if image_ids else (),
        subject_ids=read_some_ids(subject_ids, "--subject-ids") if subject_ids else (),
        due=due,
        copies=copies,
    )
    calibration = load_calibration(model_record(config.attributes), config.attributes.weights)
    certificate = erase(start(config), config, output, wish, images=images, calibration=calibration)
    _summarize(certificate)
    summary.write("erase", certificate.as_data())


def _summarize(certificate: "Certificate") -> None:
    if not certificate.requests:
        click.echo("nothing is due")
        return
    images = sum(len(request.image_ids) for request in certificate.requests)
    rows = ", ".join(f"{count} of {name}" for name, count in certificate.rows.items())
    searched = certificate.search
    asked = sum(request.n_asked for request in certificate.requests)
    click.echo(f"{asked} ids asked for, {images} images with their copies; rows deleted: {rows}")
    click.echo(f"{searched.files} files searched ({searched.log_files} of logs): none holds an erased id")
    click.echo(f"certificate    {certificate.location}")


main = entry_point(command)
