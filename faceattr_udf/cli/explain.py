"""`faceattr explain`: writes everything that is held about images or subjects, and why, to a file."""

import json
import os
from pathlib import Path

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.id_file import read_some_ids
from faceattr_udf.cli.options import PATH, config_options
from faceattr_udf.cli.output_files import check_output_file


@click.command("explain", cls=Command)
@click.option("--output", required=True, metavar="FOLDER", help="The folder of the output tables, as in enrich.")
@click.option("--images", required=True, metavar="TABLE", help="The images table: a path, a URI, or a catalog name.")
@click.option(
    "--image-ids", "image_id_file", type=PATH, metavar="FILE", help="A text file (UTF-8) with one image_id per line."
)
@click.option(
    "--subject-ids",
    "subject_id_file",
    type=PATH,
    metavar="FILE",
    help="The same with subjects; all their images count.",
)
@click.option("--json", "json_file", required=True, type=PATH, metavar="OUT.json", help="Where the answer goes.")
@config_options
def command(
    output: str,
    images: str,
    image_id_file: Path | None,
    subject_id_file: Path | None,
    json_file: Path,
    config_file: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Write everything that is held about images or subjects, and why, to a file.

    For requests of access. Per image: its row in the images table without the content, its consents and how they are
    decided, its result, all columns of its faces, the runs with purpose, legal basis and policy, and the tombstone of
    an erased image, for which privacy.key_file is needed. Only you can read the file (mode 0600). Ids come from a file,
    because others can see the command line; the terminal and the log show counts only.

    \b
    Examples:
      faceattr explain --output lake --images lake/images --subject-ids subjects.txt --json answer.json
    """
    from faceattr_udf.config import Config
    from faceattr_udf.logs import configure_logging
    from faceattr_udf.spark.explanation import explain
    from faceattr_udf.spark.session import start

    if (image_id_file is None) == (subject_id_file is None):
        msg = "name either --image-ids or --subject-ids"
        raise click.UsageError(msg)
    configure_logging()
    config = Config.load(config_file, overrides)
    check_output_file(json_file, "--json", make_folder=False)
    image_ids = read_some_ids(image_id_file, "--image-ids") if image_id_file else []
    subject_ids = read_some_ids(subject_id_file, "--subject-ids") if subject_id_file else []
    found = explain(start(config), config, images, output, image_ids=image_ids, subject_ids=subject_ids)
    _write(json_file, json.dumps(found.data, indent=2, ensure_ascii=False))
    counts = found.counts
    click.echo(
        f"{counts['images']} images: {counts['in_images_table']} in the images table, {counts['with_result']} with a "
        f"result, {counts['faces']} faces"
    )
    click.echo(f"{json_file} holds personal data; delete it when it is delivered")


def _write(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, as a whole, whoever could read the file that it replaces."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)  # not changed by the umask either
        file.write(text + "\n")
    unfinished.replace(path)


main = entry_point(command)
