"""Files that commands write: checked before any work, so that no hour of it is lost for the name of a file."""

import os
from pathlib import Path


def check_output_file(path: Path, option: str, *, make_folder: bool = True) -> None:
    """Checks that a file can be written; what it holds stays.

    Args:
        path: The file.
        option: The option that names it, for the message.
        make_folder: Whether its folder is made where it is missing.

    Raises:
        ConfigError: The file cannot be written.
    """
    from faceattr_udf.errors import ConfigError

    probe = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(21, "Is a directory")
        # A file beside it: opening the file itself would make an empty one, or empty it.
        probe.write_text("", encoding="utf-8")
        probe.unlink()
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        msg = f"{option} {path} cannot be written ({error.strerror}); name a file in a folder that you may write to"
        raise ConfigError(msg) from error
