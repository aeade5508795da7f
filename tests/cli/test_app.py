"""The command group: help, typos, exit codes and completion."""

import re
import shlex
import subprocess
import sys

import click
import pytest

from faceattr_udf.cli.app import COMMANDS, faceattr, main
from faceattr_udf.cli.entry import BUSY, USER_ERROR, Command, run
from faceattr_udf.errors import BusyError, ConfigError


def _commands() -> dict[str, click.Command]:
    context = click.Context(faceattr)
    found = {}
    for name in COMMANDS:
        command = faceattr.get_command(context, name)
        assert command is not None
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": command.commands[inner] for inner in command.commands}
    return found


def _examples(command: click.Command) -> list[str]:
    return re.findall(r"^\s+(faceattr .+)$", command.help or "", re.MULTILINE)


def test_no_arguments_print_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == USER_ERROR
    captured = capsys.readouterr()
    assert "Commands:" in captured.out + captured.err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", printed, re.MULTILINE) for name in COMMANDS)


def test_listed_summary_is_the_first_line_of_the_commands_help() -> None:
    for name, summary in COMMANDS.items():
        assert (_commands()[name].help or "").splitlines()[0] == summary


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches_with_examples_that_parse(name: str) -> None:
    examples = _examples(_commands()[name])
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert words[1] == name
        _commands()[name].make_context(name, words[2:])


def test_examples_of_the_group_parse() -> None:
    for example in _examples(faceattr):
        words = shlex.split(example)
        if len(words) > 2:
            _commands()[words[1]].make_context(words[1], words[2:])


def test_example_with_a_wrong_option_does_not_parse() -> None:
    with pytest.raises(click.NoSuchOption):
        _commands()["enrich"].make_context("enrich", ["--imagez", "a", "--output", "b"])


def test_typo_in_a_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enrihc"]) == USER_ERROR
    assert "no such command 'enrihc'; did you mean 'enrich'?" in capsys.readouterr().err


def test_typo_in_an_option_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enrich", "--image", "x"]) == USER_ERROR
    assert "Did you mean '--images'?" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(ConfigError("wrong"), USER_ERROR), (BusyError("wrong"), BUSY)])
def test_expected_error_is_one_line_and_an_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert run(Command("enrich", callback=fail), [], "faceattr enrich") == code
    assert capsys.readouterr().err == "enrich: wrong\n"


def test_missing_package_names_its_extra(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ModuleNotFoundError(name="sklearn.metrics")

    assert run(Command("evaluate", callback=fail), [], "faceattr evaluate") == USER_ERROR
    assert "the package sklearn is not installed; run pip install 'faceattr_udf[train]'" in capsys.readouterr().err


def test_bug_is_a_traceback_and_exit_code_1() -> None:
    code = "from faceattr_udf.cli.entry import Command, run; run(Command('x', callback=lambda: 1 / 0), [], 'x')"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert finished.returncode == 1
    assert "ZeroDivisionError" in finished.stderr


def test_help_imports_neither_spark_nor_networks() -> None:
    code = "import sys; from faceattr_udf.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    loaded = {name.partition(".")[0] for name in finished.stderr.split()}
    assert not loaded & {"cv2", "numpy", "openvino", "pandas", "pyarrow", "pydantic", "pyspark", "rich", "torch"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands(shell: str) -> None:
    completion = {"bash": {"COMP_WORDS": "faceattr e", "COMP_CWORD": "1"}}.get(
        shell, {"COMP_WORDS": "faceattr e", "COMP_CWORD": "1" if shell == "zsh" else "e"}
    )
    environment = {"_FACEATTR_COMPLETE": f"{shell}_complete", "PATH": "", **completion}
    code = "from faceattr_udf.cli.app import faceattr; faceattr(prog_name='faceattr')"
    finished = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert "enrich" in finished.stdout
    assert "evaluate" in finished.stdout


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    import faceattr_udf

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"faceattr {faceattr_udf.__version__}\n"
