"""Files of ids, one per line: ids stay off the command line, which others can see."""

from pathlib import Path


def read_ids(path: Path, option: str) -> list[str]:
    """Returns the ids of a text file in their order, each once; blank lines are none.

    Args:
        path: The file, UTF-8 with or without a byte order mark.
        option: Names the file in errors, which do not quote it.

    Raises:
        ConfigError: The file cannot be read.
    """
    from faceattr_udf.errors import ConfigError

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        msg = f"{option} {path} cannot be read ({reason}); name a text file with one id per line"
        raise ConfigError(msg) from None  # the cause may hold a part of the file
    # Not splitlines, which also splits at characters that an id may have.
    return list(dict.fromkeys(line.removesuffix("\r") for line in text.split("\n") if line.strip()))


def read_some_ids(path: Path, option: str) -> list[str]:
    """Returns the ids of a file that must have some, as `read_ids` does.

    Raises:
        ConfigError: The file cannot be read, or has no ids.
    """
    from faceattr_udf.errors import ConfigError

    ids = read_ids(path, option)
    if not ids:
        msg = f"{option} {path} is empty; write one id per line"
        raise ConfigError(msg)
    return ids
