"""The command group `faceattr`, which imports a command's module only when that command runs.

`faceattr --help` and shell completion of command names need neither Spark nor the networks.
"""

import difflib
import importlib
from collections.abc import Sequence
from typing import Final, NoReturn

import click
from click.shell_completion import CompletionItem

from faceattr_udf.cli.entry import CONTEXT, run

COMMANDS: Final = {
    "demo": "Enrich sample photographs and show the faces.",
    "ingest": "Write the images of a folder to an images table.",
    "enrich": "Find the faces of an images table and predict their attributes.",
    "marts": "Count faces by day, and correct shares of perceived attributes.",
    "publish": "Publish people by perceived attributes, without counts of few people.",
    "drift": "Tell whether a run differs from the nights before it, and how.",
    "report": "Write one page about who is in the photographs, and how sure that is.",
    "annotate": "Draw boxes and attributes from the tables onto photographs.",
    "explain": "Write everything that is held about images or subjects, and why, to a file.",
    "erase": "Erase images from tables, files and logs, and prove it.",
    "maintain": "Compact, vacuum, prune and change the output tables.",
    "evaluate": "Measure a model on labeled faces.",
    "train": "Train an attribute model on labeled faces.",
    "compare": "Compare the attribute models on the same labeled faces.",
    "benchmark": "Measure speed against other libraries on the same photographs.",
    "dataturks": "Convert a DataTurks export to a table of labeled faces.",
    "config": "Print the effective configuration, or explain a key.",
    "doctor": "Check that this machine can run faceattr, and say how to fix what fails.",
}
"""Command -> the first line of its help, in the order of the list."""

_HELP: Final = """\
Perceived age, gender, ethnicity and emotion of every face in a table of images.

\b
Examples:
  faceattr demo
  faceattr ingest --input photos --images lake/images
  faceattr enrich --images lake/images --output lake
  faceattr config explain detector.min_face_size

\b
Exit codes: 0 done, 1 bug, 2 you can fix it, 3 an alarm that you asked for, 4 another job is at work there.
Shell completion: eval "$(_FACEATTR_COMPLETE=bash_source faceattr)", or zsh_source, fish_source.
"""


class LazyGroup(click.Group):
    """A group whose commands are modules of this package, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order in which help lists them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command's module; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"faceattr_udf.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command, and names the nearest one for a typo."""
        if args and args[0] not in COMMANDS:
            self._unknown(ctx, args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completes command names without importing them."""
        return [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]

    @staticmethod
    def _unknown(ctx: click.Context, name: str) -> NoReturn:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "see faceattr --help"
        ctx.fail(f"no such command {name!r}; {hint}")


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from faceattr_udf import __version__

        click.echo(f"faceattr {__version__}")
        ctx.exit()


@click.group(
    name="faceattr",
    cls=LazyGroup,
    help=_HELP,
    context_settings=CONTEXT,
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print it.")
def faceattr() -> None:
    """Dispatches to the commands."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Arguments without the program's name; None means those of the process.

    Returns:
        The exit code.
    """
    return run(faceattr, argv, "faceattr")
