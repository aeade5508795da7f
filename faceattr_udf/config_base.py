"""What the job configuration and the training settings share: strict sections, overrides and error messages."""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from faceattr_udf.errors import ConfigError
from faceattr_udf.sanitize import HIDDEN, is_secret

NO_RENAMES: Final[Mapping[str, str]] = MappingProxyType({})


class Section(BaseModel):
    """A frozen section of a TOML file that rejects unknown keys and converts no types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _list_to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


TUPLE_FROM_LIST: Final = BeforeValidator(_list_to_tuple)
"""Accepts a TOML or JSON array for a tuple field, which strict mode would reject: `Annotated[tuple[...], THIS]`."""


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Reads a TOML file.

    Args:
        path: The file.
        what: Names the kind of file in errors, such as "configuration file".

    Raises:
        ConfigError: The file is missing, not UTF-8 or not TOML.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"the {what} {path} cannot be read ({error.strerror}); name an existing TOML file"
        raise ConfigError(msg) from error
    return parse_toml(content, f"{what} {path}")


def parse_toml(content: bytes, what: str) -> dict[str, Any]:
    """Returns the data of a TOML file.

    Args:
        content: The file.
        what: Names it in errors.

    Raises:
        ConfigError: It is not UTF-8 or not TOML.
    """
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"the {what} is not valid TOML: {error}"
        raise ConfigError(msg) from error


def apply_override(data: dict[str, Any], override: str) -> None:
    """Sets one `section.key=value` in nested plain data, in place.

    Raises:
        ConfigError: The override does not have this form.
    """
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or len(parts) < 2 or not all(parts):
        shown = HIDDEN if is_secret(override) else repr(override)
        msg = f"--set {shown} is not of the form section.key=value, e.g. --set engine.name=spark"
        raise ConfigError(msg)
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if parts[:2] in (["engine", "settings"], ["output", "properties"]) and len(parts) > 3:
        # Spark's own keys contain dots: engine.settings.spark.sql.shuffle.partitions=8
        parts = [*parts[:2], ".".join(parts[2:])]
        value = text
    node = data
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            msg = f"--set {key}: {part!r} is a value, not a section"
            raise ConfigError(msg)
        node = child
    node[parts[-1]] = value


def format_validation_error(
    error: ValidationError,
    model: type[BaseModel],
    renamed: Mapping[str, str] = NO_RENAMES,
    what: str = "configuration",
) -> str:
    """Describes all mistakes in one line: for each the key, the value and what is expected.

    Args:
        error: The error of validating `model`.
        model: The root section, whose keys are suggested for unknown ones.
        renamed: Old key -> new key, both with their sections.
        what: Names what was validated.
    """
    reasons = []
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"]) or what
        value = repr(detail["input"])
        value = HIDDEN if is_secret(key) or is_secret(value) else value
        if detail["type"] == "extra_forbidden":
            reasons.append(f"unknown key {key} = {value}; {_unknown_key_fix(key, model, renamed)}")
        else:
            expected = detail["msg"].removeprefix("Value error, ")
            reasons.append(f"{key} = {value} is wrong: {expected}" if detail["loc"] else expected)
    return f"{what}: " + "; ".join(reasons)


def _unknown_key_fix(key: str, model: type[BaseModel], renamed: Mapping[str, str]) -> str:
    if key in renamed:
        return f"it was renamed to {renamed[key]}"
    nearest = nearest_key(key, model)
    if nearest is not None:
        return f"did you mean {nearest}?"
    return "remove it (the files in conf/ explain all keys)"


def nearest_key(key: str, model: type[BaseModel]) -> str | None:
    """Returns the valid key most similar to an unknown one, in the same section or of the same name elsewhere.

    Args:
        key: With its sections, separated by dots.
        model: The root section.
    """
    section, _, name = key.rpartition(".")
    known = list(_keys(model))
    siblings = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == section}
    elsewhere = {other.rpartition(".")[2]: other for other in known}
    for candidates, cutoff in ((siblings, 0.6), (elsewhere, 0.85)):
        for match in difflib.get_close_matches(name, candidates, n=1, cutoff=cutoff):
            return candidates[match]
    return None


def _keys(model: type[BaseModel], section: str = "") -> Iterator[str]:
    """Yields every section and key of a model, with their sections."""
    for name, field in model.model_fields.items():
        yield section + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{section}{name}.")
