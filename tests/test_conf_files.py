"""The files in conf/ are valid, agree with the defaults in the code, and explain every key."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError

CONF = Path(__file__).parents[1] / "conf"
DEFAULT = CONF / "default.toml"
KEY_LINE = re.compile(r"^(?:# )?(\w+) = ")


def _keys(model: type[BaseModel], section: str = "") -> Iterator[tuple[str, str]]:
    """Yields (section, key) for every key that is not itself a section."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _keys(kind, f"{section}.{name}".lstrip("."))
        else:
            yield section, name


def _documented(text: str) -> set[tuple[str, str]]:
    """Returns (section, key) for every key line, active or commented out, that has its own comment directly above."""
    documented = set()
    section, explained = "", False
    for line in text.splitlines():
        key = KEY_LINE.match(line)
        if line.startswith("["):
            section, explained = line.strip("[]"), False
        elif key:
            if explained:
                documented.add((section, key[1]))
            explained = False
        else:
            explained = line.startswith("#")
    return documented


def test_no_file_empty_file_and_default_file_are_equal(tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.touch()
    assert Config.load(None) == Config.load(empty) == Config.load(DEFAULT) == Config()


def test_default_file_explains_exactly_the_known_keys() -> None:
    own_sections = {("engine", "settings"), ("output", "properties"), ("output", "tags"), ("output", "column_tags")}
    keys = {key for key in _keys(Config) if key not in own_sections}
    assert _documented(DEFAULT.read_text()) == keys


def test_default_file_sets_every_key_that_has_a_value() -> None:
    written = tomllib.loads(DEFAULT.read_text())
    values = Config().model_dump(mode="json", exclude_none=True)
    assert written == values


@pytest.mark.parametrize("path", sorted(CONF.glob("*.toml")), ids=lambda path: path.name)
def test_file_in_conf_is_valid(path: Path) -> None:
    assert isinstance(Config.load(path), Config)


def test_misspelled_key_in_a_file_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(DEFAULT.read_text().replace("min_face_size", "min_face_sise"))
    with pytest.raises(ConfigError, match=r"detector\.min_face_sise"):
        Config.load(wrong)


def test_nightly_file_selects_spark_without_a_master() -> None:
    nightly = Config.load(CONF / "nightly.toml")
    assert nightly.engine.name == "spark"
    assert nightly.engine.master is None


def test_every_shipped_file_is_one_of_the_folder_conf() -> None:
    shipped = CONF.parent / "faceattr_udf" / "conf"
    links = [path for path in shipped.rglob("*") if path.suffix == ".toml"]
    assert links
    assert all(path.resolve() == (CONF / path.relative_to(shipped)).resolve(strict=True) for path in links)
