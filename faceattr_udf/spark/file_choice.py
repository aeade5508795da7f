"""Decides which files of a folder are images to ingest, and counts the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from faceattr_udf.config import IngestConfig
from faceattr_udf.images.kinds import HEIF, SIGNATURES
from faceattr_udf.spark.safe_open import OutsideFolderError, open_inside

SUFFIXES: Final = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".icns", ".ico", ".j2k", ".jfif", ".jp2", ".jpe"}
    | {".jpeg", ".jpf", ".jpg", ".jpx", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi", ".tga"}
    | {".tif", ".tiff", ".webp"}
)
"""Suffixes, in lower case, of the files that are taken without a look at their content."""

_SYSTEM_NAMES: Final = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_SYSTEM_FOLDERS: Final = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
)
SIGNATURE_BYTES: Final = 16
"""How many of a file's first bytes tell its kind."""


def is_system_name(name: str, *, is_folder: bool) -> bool:
    """Checks whether an operating system or a photo store wrote a file or folder for itself.

    >>> [is_system_name(name, is_folder=False) for name in ("._a.jpg", "Thumbs.db", "a.jpg")]
    [True, True, False]
    """
    return name.startswith(".") or name.lower() in (_SYSTEM_FOLDERS if is_folder else _SYSTEM_NAMES)


@dataclass
class FileChoice:
    """Chooses files by the configuration, and counts those that are left out.

    Attributes:
        options: The section `[ingest]`.
        left_out: Suffix -> number of files that are no images; the suffix is in lower case, "" if there is none.
        system: Number of system files and folders that were skipped.
        excluded: Number of files that `ingest.include` and `ingest.exclude` leave out.
    """

    options: IngestConfig
    left_out: dict[str, int] = field(default_factory=dict)
    system: int = 0
    excluded: int = 0

    def skips(self, name: str, *, is_folder: bool) -> bool:
        """Checks whether an entry is a system's own and is to be skipped, and counts it."""
        skipped = self.options.skip_system_files and is_system_name(name, is_folder=is_folder)
        self.system += skipped
        return skipped

    def takes(self, image_id: str, start: Callable[[], bytes]) -> bool:
        """Checks whether a file is taken, and counts it if it is not.

        Args:
            image_id: The file's path below the folder of the ingestion, with slashes.
            start: Reads its first bytes; called only if the suffix does not decide.
        """
        include, exclude = self.options.include, self.options.exclude
        if (include and not _matches(image_id, include)) or _matches(image_id, exclude):
            self.excluded += 1
            return False
        suffix = PurePosixPath(image_id).suffix.lower()
        if suffix in SUFFIXES or _has_signature(start):
            return True
        self.left_out[suffix] = self.left_out.get(suffix, 0) + 1
        return False


def _matches(image_id: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(image_id, pattern) for pattern in patterns)


def _has_signature(start: Callable[[], bytes]) -> bool:
    try:
        found = start()
    except (OutsideFolderError, OSError, ValueError):
        return False
    return bool(SIGNATURES.match(found) or HEIF.match(found))


def first_bytes(root: Path, image_id: str) -> bytes:
    """Reads the first bytes of a file, which tell its kind.

    Raises:
        OutsideFolderError: A link leads out of `root`.
        OSError: The file is not regular or not readable.
    """
    with open_inside(root, root / image_id) as file:
        return file.read(SIGNATURE_BYTES)
