"""`faceattr annotate`: draws what the tables say onto photographs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.id_file import read_ids
from faceattr_udf.cli.options import PATH, config_options
from faceattr_udf.cli.output_files import check_output_file
from faceattr_udf.cli.summary_file import SummaryFile, json_option

if TYPE_CHECKING:
    from faceattr_udf.spark.pictures import Pictures

_SAMPLE = 20


@click.command("annotate", cls=Command)
@click.option("--images", required=True, metavar="TABLE", help="The images table, as in enrich.")
@click.option("--output", required=True, metavar="FOLDER", help="The folder of the output tables, as in enrich.")
@click.option("--to", "target", required=True, type=PATH, metavar="FOLDER", help="The folder of the pictures.")
@click.option("--image-ids", type=PATH, metavar="FILE", help="Draw these images: one image_id per line, UTF-8.")
@click.option(
    "--where",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Draw images with such a face; may be repeated, and all must fit the same face. Columns of faces, or else of "
    "image_results, of text, whole numbers, true and false, and times by their day. COLUMN= means null.",
)
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help=f"Draw at most N images, by chance.  [default: {_SAMPLE}]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another sample.")
@click.option(
    "--max-pixels",
    type=click.IntRange(min=10_000, max=64_000_000),
    default=4_000_000,
    show_default=True,
    metavar="N",
    help="Larger photographs are reduced to this many pixels.",
)
@json_option
@config_options
def command(
    images: str,
    output: str,
    target: Path,
    image_ids: Path | None,
    where: tuple[str, ...],
    sample: int | None,
    seed: int,
    max_pixels: int,
    json_file: Path | None,
    config_file: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Draw boxes and attributes from the tables onto photographs.

    No model runs. Writes one JPEG per image, without the metadata of its file; the name is the image_id with harmless
    characters and a hash. The pictures show people: keep them where only those see them who may.

    \b
    Examples:
      faceattr annotate --images lake/images --output lake --to pictures
      faceattr annotate --images lake/images --output lake --to surprised --where emotion=surprise --sample 50
      faceattr annotate --images lake/images --output lake --to pictures --image-ids ids.txt
    """
    from faceattr_udf.config import Config
    from faceattr_udf.logs import configure_logging
    from faceattr_udf.spark.locations import refuse_inside_delta
    from faceattr_udf.spark.pictures import Pictures
    from faceattr_udf.spark.session import start

    configure_logging()
    config = Config.load(config_file, overrides)
    wanted = _wanted(image_ids, where, sample)
    summary = SummaryFile(json_file)
    refuse_inside_delta(str(target.absolute() / "picture"), f"the folder {target}", "set --to to another folder")
    check_output_file(target / "picture.jpg", "--to")
    pictures = Pictures(start(config), config, images, output)
    if wanted is None:
        wanted, n_fitting = pictures.sample(pictures.conditions(where), sample or _SAMPLE, seed)
        click.echo(f"{len(wanted)} of {n_fitting} images")
    drawn, problems = _write(pictures, wanted, target, max_pixels)
    click.echo(f"{len(drawn)} pictures in {target}")
    summary.write("annotate", {"folder": str(target), "pictures": drawn, "problems": problems})


def _wanted(image_ids: Path | None, where: tuple[str, ...], sample: int | None) -> list[str] | None:
    """Returns the image_ids of a file, or None where a sample is wanted.

    Raises:
        ConfigError: Both are wanted, or the file cannot be read.
    """
    from faceattr_udf.errors import ConfigError

    if image_ids is None:
        return None
    if where or sample is not None:
        msg = "--image-ids names the images; leave --where and --sample out, or leave out --image-ids"
        raise ConfigError(msg)
    return read_ids(image_ids, "--image-ids")


def _write(
    pictures: "Pictures", image_ids: list[str], target: Path, max_pixels: int
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Writes the pictures, and returns what became of every image."""
    from faceattr_udf.sanitize import file_name, printable

    drawn: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []
    for picture in pictures.draw(image_ids, max_pixels):
        if picture.jpeg is None:
            click.echo(printable(f"{picture.image_id} is not drawn: {picture.problem}"), err=True)
            problems.append({"image_id": picture.image_id, "problem": str(picture.problem)})
            continue
        name = file_name(picture.image_id, ".jpg")
        unfinished = target / f".{name}"
        unfinished.write_bytes(picture.jpeg)
        unfinished.replace(target / name)  # also in place of a link
        drawn.append({"image_id": picture.image_id, "file": name, "n_faces": picture.n_faces})
    return drawn, problems


main = entry_point(command)
