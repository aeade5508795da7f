"""The folder that an ingestion reads: on this machine or in an object store."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from pyarrow import fs

from faceattr_udf.errors import EngineError, TableNotFoundError
from faceattr_udf.sanitize import first_line
from faceattr_udf.spark.file_choice import FileChoice, first_bytes
from faceattr_udf.spark.locations import local_path
from faceattr_udf.spark.safe_open import open_inside
from faceattr_udf.spark.store_files import StoreFolder

CHANGED: Final = "changed while it was read"

Reader = Callable[[], tuple[bytes | None, int]]
"""Returns a file's content, None if it is too large, and its size."""

Refuse = Callable[[str, str], object]
"""Takes the path and the reason of a file or folder that is refused."""


def open_source(folder: str) -> "LocalSource | StoreSource":
    """Opens a folder.

    Raises:
        TableNotFoundError: There is no such folder.
        EngineError: It cannot be listed.
    """
    root = local_path(folder)
    try:
        source = StoreSource(StoreFolder(folder)) if root is None else LocalSource(root)
        found = source.exists()
    except OSError as error:
        msg = f"folder {folder} cannot be read ({first_line(error)}); set --input to one that can be listed"
        raise EngineError(msg) from error
    if not found:
        msg = f"folder {folder} does not exist; set --input to a folder of images"
        raise TableNotFoundError(msg)
    return source


class LocalSource:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def exists(self) -> bool:
        """Checks whether there is such a folder."""
        return self._root.is_dir()

    def files(self, refuse: Refuse, choice: FileChoice) -> Iterator[tuple[str, Path]]:
        """Yields image_id and path of the chosen files, by rising image_id."""
        return _files(self._root, refuse, choice)

    def contents(self, files: Sequence[tuple[str, Path]], max_bytes: int) -> Iterator[tuple[str, str, Reader]]:
        """Yields image_id, path and reader of each file."""
        for image_id, path in files:
            yield image_id, str(path.absolute()), partial(_read, self._root, path, max_bytes)


class StoreSource:
    """A folder in an object store."""

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder

    def exists(self) -> bool:
        """Checks whether there is such a folder; raises an `OSError` where the store cannot tell."""
        return self._folder.exists()

    def files(self, refuse: Refuse, choice: FileChoice) -> Iterator[tuple[str, fs.FileInfo]]:
        """Yields image_id and store entry of the chosen files, by rising image_id."""
        for image_id, info in self._folder.files(choice.skips, refuse):
            if choice.takes(image_id, partial(self._folder.first_bytes, info)):
                yield image_id, info

    def contents(self, files: Sequence[tuple[str, fs.FileInfo]], max_bytes: int) -> Iterator[tuple[str, str, Reader]]:
        """Yields image_id, URI and reader of each file, while the next ones are downloaded."""
        for image_id, read in self._folder.read_ahead(files, max_bytes):
            yield image_id, self.location(image_id), read

    def location(self, image_id: str) -> str:
        """Returns the URI of a file."""
        return self._folder.location(image_id)


class RefusedError(Exception):
    """A file is refused; the message is the reason."""


def _read(root: Path, path: Path, max_bytes: int) -> tuple[bytes | None, int]:
    """Returns a file's content and its size in bytes; the content is None if it is larger than `max_bytes`.

    Raises:
        OutsideFolderError: A link leads out of `root`.
        RefusedError: The file changed while it was read.
        OSError: The file is not regular or not readable.
    """
    with open_inside(root, path) as file:
        before = os.fstat(file.fileno())
        if before.st_size > max_bytes:
            return None, before.st_size
        content = file.read(before.st_size + 1)
        after = os.fstat(file.fileno())
    # Half an upload would be stored as a damaged image. The next run will find the whole file.
    if (len(content), after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise RefusedError(CHANGED)
    return content, before.st_size


def _files(root: Path, refuse: Refuse, choice: FileChoice) -> Iterator[tuple[str, Path]]:
    """Yields the image_id and path of every image file, by rising image_id."""
    levels = [_entries(root, refuse, choice)]
    while levels:
        path, is_folder = next(levels[-1], (None, False))
        if path is None:
            levels.pop()
        elif not is_folder:
            image_id = path.relative_to(root).as_posix()
            if not choice.takes(image_id, partial(first_bytes, root, image_id)):
                continue
            try:
                image_id.encode()
            except UnicodeEncodeError:
                refuse(image_id, "name is not UTF-8")
            else:
                yield image_id, path
        elif path.is_symlink():  # not followed, so that links cannot lead in circles
            refuse(str(path), "symbolic link to a folder")
        else:
            levels.append(_entries(path, refuse, choice))


def _entries(folder: Path, refuse: Refuse, choice: FileChoice) -> Iterator[tuple[Path, bool]]:
    """Yields the files and subfolders of a folder in the order of their image_ids.

    A subfolder sorts by its name with a slash, as in the image_ids below it: "a.jpg" < "a/b.jpg" < "a0.jpg".

    Returns:
        Paths, and whether each is a folder.
    """
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = _is_folder(entry)
                if not choice.skips(entry.name, is_folder=is_folder):
                    found.append((f"{entry.name}/" if is_folder else entry.name, is_folder))
    except OSError as error:
        refuse(str(folder), error.strerror or "unreadable")
    for name, is_folder in sorted(found):
        yield folder / name, is_folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a cycle of links, or a missing permission
        return False
