"""The folder in which this package keeps downloads."""

import os
from pathlib import Path


def user_cache(name: str) -> Path:
    """Returns a folder of this user's cache, `~/.cache/faceattr_udf/NAME` or the same below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faceattr_udf" / name
