"""`faceattr config`: prints the effective configuration and explains keys."""

import json
import textwrap

import click

from faceattr_udf.cli.entry import Command, Group, entry_point
from faceattr_udf.cli.options import config_options
from faceattr_udf.cli.reference import settings, to_toml

_WIDTH = 100


@click.group("config", cls=Group, invoke_without_command=True)
@config_options
@click.pass_context
def command(ctx: click.Context, config_file: str | None, overrides: tuple[str, ...]) -> None:
    """Print the effective configuration, or explain a key.

    Prints TOML: the defaults, the file of --config and --set, in this order. Secrets are hidden.

    \b
    Examples:
      faceattr config
      faceattr config --config conf/nightly.toml --set detector.min_face_size=40
      faceattr config explain detector.min_face_size
      faceattr config explain enrich
    """
    if ctx.invoked_subcommand is not None:
        return
    from faceattr_udf.config import Config

    config = Config.load(config_file, overrides)
    click.echo(to_toml(json.loads(config.to_redacted_json())))
    click.echo(f"\n# config_id {config.config_id()}")


@command.command("explain", cls=Command)
@click.argument("key")
def explain(key: str) -> None:
    """Explain a key, or all keys of a section.

    \b
    Examples:
      faceattr config explain detector.min_face_size
      faceattr config explain enrich
    """
    from faceattr_udf.config import Config
    from faceattr_udf.config_base import nearest_key
    from faceattr_udf.errors import ConfigError

    chosen = [setting for name, setting in settings().items() if name == key or name.startswith(f"{key}.")]
    if not chosen:
        nearest = nearest_key(key, Config)
        hint = f"did you mean {nearest}?" if nearest else "faceattr config lists all keys"
        msg = f"there is no key {key}; {hint}"
        raise ConfigError(msg)
    for number, setting in enumerate(chosen):
        default = setting.default if setting.default is not None else f"no default, e.g. {setting.example}"
        click.echo(("\n" if number else "") + f"{setting.key} (default: {default})")
        click.echo(textwrap.fill(setting.explanation, _WIDTH, initial_indent="  ", subsequent_indent="  "))


main = entry_point(command)
