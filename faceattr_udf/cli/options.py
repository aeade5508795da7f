"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

_F = TypeVar("_F", bound=Callable[..., Any])

PATH: Final = click.Path(path_type=Path)


def _complete_key(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from faceattr_udf.cli.reference import settings

    return [CompletionItem(f"{key}=") for key in settings() if key.startswith(incomplete)]


def config_options(function: _F) -> _F:
    """Adds `--config FILE` and `--set section.key=value`, passed as `config_file` and `overrides`."""
    function = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="section.key=value",
        shell_complete=_complete_key,
        help="Override one key of the configuration; may be repeated. Explained by: faceattr config explain KEY.",
    )(function)
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        help="A TOML file; without it the defaults apply, with the embedded engine.",
    )(function)


class ManyValues(click.Option):
    """An option that takes one or more values, `--sizes 10 100 1000`, and may also be repeated."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own signature
        kwargs["multiple"] = True
        super().__init__(*args, **kwargs)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:  # noqa: ANN401 - a private class of click
        """Lets the parser take the values up to the next option."""
        super().add_to_parser(parser, ctx)
        for name in self.opts:
            option = parser._long_opt[name]
            take_one = option.process

            def take_all(value: str, state: Any, take_one: Any = take_one) -> None:  # noqa: ANN401
                take_one(value, state)
                while state.rargs and not state.rargs[0].startswith("-"):
                    take_one(state.rargs.pop(0), state)

            option.process = take_all
