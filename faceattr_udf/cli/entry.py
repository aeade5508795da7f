"""Runs commands, and turns their errors into one sentence on stderr and an exit code."""

import sys
from collections.abc import Sequence
from typing import Any, Final, Protocol

import click

DONE: Final = 0
USER_ERROR: Final = 2
ALARM: Final = 3
BUSY: Final = 4
INTERRUPTED: Final = 130

_EXTRAS: Final = {
    "altair": "report",
    "delta": "spark",
    "deltalake": "maintain",
    "facenet_pytorch": "benchmark",
    "fairlearn": "train",
    "filelock": "spark",
    "jinja2": "report",
    "matplotlib": "train",
    "nncf": "train",
    "pysail": "sail",
    "pyspark": "sail",
    "scipy": "publish",
    "sklearn": "train",
    "threadpoolctl": "benchmark",
    "torch": "train",
    "torchvision": "train",
    "vl_convert": "report",
}
"""Package that may be missing -> the extra that installs it."""


CONTEXT: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""click's settings of every command, whether it runs below `faceattr` or alone in a job."""


class _PlainErrors(click.Command):
    """Prints expected errors as one sentence, "NAME: what is wrong and how to fix it", and sets the exit code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own signature
        super().__init__(*args, **{"context_settings": CONTEXT, **kwargs})

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Calls the function."""
        from faceattr_udf.errors import BusyError, FaceattrError

        try:
            return super().invoke(ctx)
        except FaceattrError as error:
            self._fail(ctx, str(error), BUSY if isinstance(error, BusyError) else USER_ERROR)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _EXTRAS:
                raise
            fix = f"pip install 'faceattr_udf[{_EXTRAS[package]}]'"
            self._fail(ctx, f"the package {package} is not installed; run {fix}", USER_ERROR)

    def _fail(self, ctx: click.Context, message: str, code: int) -> None:
        click.echo(f"{ctx.command_path.removeprefix('faceattr ')}: {message}", err=True)
        ctx.exit(code)


class Command(_PlainErrors):
    """A command. Its function returns the exit code, or None for 0.

    Exceptions other than `FaceattrError` are bugs: Python prints the traceback and exits with 1.
    """


class Group(_PlainErrors, click.Group):
    """A command with subcommands."""


def run(command: click.Command, argv: Sequence[str] | None, program: str) -> int:
    """Runs a command.

    Args:
        command: The command or group.
        argv: Arguments without the program's name; None means those of the process.
        program: The name that usage lines show.

    Returns:
        The exit code: 0 done, 2 for what the user can fix, 3 for an alarm that was asked for, 4 when another job holds
        the lease, 130 when interrupted. Bugs raise.
    """
    try:
        code = command.main(None if argv is None else list(argv), prog_name=program, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("interrupted", file=sys.stderr)
        return INTERRUPTED
    return code if isinstance(code, int) else DONE


class Main(Protocol):
    """A program's entry point."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Runs with arguments, None meaning those of the process, and returns the exit code."""


def entry_point(command: click.Command) -> Main:
    """Returns `main(argv) -> exit code` for a command, which the scripts in `jobs/` call."""

    def main(argv: Sequence[str] | None = None) -> int:
        return run(command, argv, f"faceattr {command.name}")

    main.__doc__ = f"Runs `faceattr {command.name}` and returns its exit code."
    return main
