"""The documentation's code runs, its reference pages are current, and the README stays short."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import click
import pytest
from conftest import Engine

from faceattr_udf.cli.app import COMMANDS, faceattr
from faceattr_udf.cli.entry import run
from faceattr_udf.spark.marts.queries import register_views

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks(language: str) -> list[tuple[str, str]]:
    return [
        (path.name, block)
        for path in PAGES
        for block in re.findall(
            rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
        if "readStream" not in block  # the embedded engine has no streams; test_data_frames.py runs it on Spark
    ]


def _commands() -> list[str]:
    """Returns the commands of indented blocks, without comments; lines that end with a backslash are joined."""
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        found += re.findall(r"^    (faceattr [^#\n]+)", text, re.MULTILINE)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_photos: Path, sail_engine: Engine) -> Path:
    """A folder with everything that the examples name: photographs, a configuration, enriched tables."""
    assert sail_engine.name == "sail"
    folder = tmp_path_factory.mktemp("docs")
    (folder / "photos").mkdir()
    shutil.copy(demo_photos / "portrait.jpg", folder / "photos" / "portrait.jpg")
    shutil.copy(demo_photos / "portrait.jpg", folder / "people.jpg")
    (folder / "mine.toml").write_text("[detector]\nmin_face_size = 20\n")
    for output in ("lake", "enriched"):
        images = str(folder / output / "images")
        assert run(faceattr, ["ingest", "--input", str(folder / "photos"), "--images", images], "faceattr") == 0
        assert run(faceattr, ["enrich", "--images", images, "--output", str(folder / output)], "faceattr") == 0
        assert run(faceattr, ["marts", "--output", str(folder / output)], "faceattr") == 0
    return folder


@pytest.mark.parametrize(("page", "code"), _blocks("python"))
def test_python_examples_run(page: str, code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    exec(compile(code, page, "exec"), {})  # noqa: S102 - the repository's own pages


@pytest.mark.parametrize(("page", "query"), _blocks("sql"))
def test_sql_examples_run(
    page: str, query: str, folder: Path, sail_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    if page == "marts.md":
        register_views(sail_engine.session, str(folder / "lake"))
    absolute = query.replace("delta.`enriched", f"delta.`{folder}/enriched")
    assert sail_engine.session.sql(absolute).columns, page


@pytest.mark.parametrize("example", _commands())
def test_commands_parse(example: str) -> None:
    words = shlex.split(example)
    if words[1].startswith("-"):
        return
    assert words[1] in COMMANDS, example
    command = faceattr.get_command(click.Context(faceattr), words[1])
    assert command is not None
    if "--help" not in words:
        command.make_context(words[1], words[2:])


def test_generated_pages_are_current() -> None:
    module = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert module["main"](["--check"]) == 0


def test_generator_refuses_a_column_without_description() -> None:
    module = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    with pytest.raises(ValueError, match="lacks a description of age"):
        module["_described"]({}, "age")


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_to_files_exist(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8"))
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not broken
