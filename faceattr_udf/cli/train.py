"""`faceattr train`: trains an attribute model on labeled faces."""

import json
from pathlib import Path

import click

from faceattr_udf.cli.entry import Command, entry_point
from faceattr_udf.cli.options import PATH
from faceattr_udf.cli.reference import shipped_config


@click.command("train", cls=Command)
@click.option(
    "--config",
    "config_file",
    default="default",
    show_default=True,
    metavar="FILE",
    help="A TOML file with the section [train], or the name of one in conf/train.",
)
@click.option("--set", "overrides", multiple=True, metavar="train.key=value", help="Override one key; may be repeated.")
@click.option(
    "--data",
    required=True,
    multiple=True,
    type=PATH,
    metavar="FOLDER",
    help="Files *-train.parquet, *-val.parquet and *-test.parquet; may be repeated.",
)
@click.option("--output", required=True, type=PATH, metavar="FOLDER", help="Where the weights and train.jsonl go.")
@click.option("--cache", type=PATH, metavar="FOLDER", help="Keeps face crops between trainings.")
def command(
    config_file: str, overrides: tuple[str, ...], data: tuple[Path, ...], output: Path, cache: Path | None
) -> None:
    """Train an attribute model on labeled faces.

    The test split is used once, at the end. The output folder is what attributes.weights names in the configuration.

    \b
    Examples:
      faceattr train --data faces --output weights --set train.device=cpu
      faceattr train --config separate_grey --data faces --output weights
      faceattr train --config mine.toml --data faces --output weights
    """
    from faceattr_udf.training.run import run
    from faceattr_udf.training.settings import TrainingSettings

    path = Path(config_file)
    if not path.exists():
        path = shipped_config(f"train/{path.stem}.toml") or path
    settings = TrainingSettings.load(path, overrides)
    record = run(settings, data, output, lambda line: click.echo(line, err=True), cache)
    click.echo(json.dumps({"model_version": record.model_version, **record.measured["test"]["overall"]}, indent=2))


main = entry_point(command)
