"""Explanations of configuration keys, read from the comments of `conf/default.toml`.

The package carries copies of the files in `conf/`, so that an installed wheel can explain and use them.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

_SECTION: Final = re.compile(r"^\[([\w.]+)\]$")
_KEY: Final = re.compile(r"^(# )?(\w+) = (.*)$")


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of the configuration.

    Attributes:
        key: "section.name".
        default: As TOML; None for a key without a default.
        example: A value as TOML, for a key without a default.
        explanation: Text in plain English, one paragraph.
    """

    key: str
    default: str | None
    example: str | None
    explanation: str


def shipped_config(name: str) -> Path | None:
    """Returns the path of a configuration file that the package carries, e.g. "train/default.toml".

    Args:
        name: Relative to `conf/`.

    Returns:
        The path; None where there is no such file, or the package is imported from a zip.
    """
    file = resources.files("faceattr_udf") / "conf" / name
    return file if isinstance(file, Path) and file.is_file() else None


@cache
def settings() -> dict[str, Setting]:
    """Reads all keys of `conf/default.toml` with their comments.

    Returns:
        Key -> setting, in the order of the file.
    """
    return parse(_default_toml())


def _default_toml() -> str:
    return (resources.files("faceattr_udf") / "conf" / "default.toml").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """Returns the comment below each section's title, which explains the section as a whole; "" where there is none."""
    found: dict[str, str] = {}
    lines = _default_toml().splitlines()
    for number, line in enumerate(lines):
        title = _SECTION.match(line)
        if title:
            comment = []
            for following in lines[number + 1 :]:
                if not following.startswith("# ") or _KEY.match(following):
                    break
                comment.append(following.removeprefix("# "))
            # A comment directly above a key explains that key, not the section.
            after = lines[number + 1 + len(comment)] if number + 1 + len(comment) < len(lines) else ""
            found[title[1]] = "" if _KEY.match(after) else " ".join(comment)
    return found


def parse(text: str) -> dict[str, Setting]:
    """Parses TOML whose keys are explained by the comment lines above them.

    Args:
        text: The file. A key that is commented out has no default; its value is an example.

    Returns:
        Key -> setting.

    >>> text = '''[engine]
    ... # Which engine runs the job.
    ... name = "sail"'''
    >>> parse(text)["engine.name"]
    Setting(key='engine.name', default='"sail"', example=None, explanation='Which engine runs the job.')
    """
    found: dict[str, Setting] = {}
    section = ""
    comment: list[str] = []
    for line in text.splitlines():
        title, assignment = _SECTION.match(line), _KEY.match(line)
        if title:
            section, comment = title[1], []
        elif assignment and _is_toml(assignment[3]):
            key = f"{section}.{assignment[2]}"
            default, example = (None, assignment[3]) if assignment[1] else (assignment[3], None)
            found[key] = Setting(key, default, example, " ".join(comment))
            comment = []
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        else:
            comment = []
    return found


def _is_toml(value: str) -> bool:
    try:
        tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return False
    return True


def to_toml(data: dict[str, Any]) -> str:
    """Writes nested settings as TOML; keys without a value are left out.

    Args:
        data: Section -> key -> a string, number, bool, list of these or of tables, or a nested section.

    >>> print(to_toml({"engine": {"name": "sail", "master": None, "settings": {"spark.sql.ansi.enabled": "true"}}}))
    [engine]
    name = "sail"
    <BLANKLINE>
    [engine.settings]
    "spark.sql.ansi.enabled" = "true"
    """
    blocks: list[str] = []
    for section, content in data.items():
        _write_section(section, content, blocks)
    return "\n\n".join(blocks)


def _write_section(section: str, content: dict[str, Any], blocks: list[str]) -> None:
    lines = [f"[{section}]"]
    nested = {key: value for key, value in content.items() if isinstance(value, dict)}
    lines += [f"{_quoted(k)} = {_value(v)}" for k, v in content.items() if k not in nested and v is not None]
    if len(lines) > 1:
        blocks.append("\n".join(lines))
    for key, value in nested.items():
        if value:
            _write_section(f"{section}.{key}", value, blocks)


def _quoted(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key) else _value(key)


def _value(value: Any) -> str:  # noqa: ANN401 - any TOML value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(k)} = {_value(v)}" for k, v in value.items() if v is not None) + "}"
    return repr(value)
