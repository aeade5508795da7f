"""The files of a folder in an object store, for ingestion: listed folder by folder and read a few at a time."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import PurePosixPath
from typing import Final, Protocol, runtime_checkable

from pyarrow import fs

from faceattr_udf.spark.file_choice import SIGNATURE_BYTES
from faceattr_udf.spark.locations import file_system, join

_THREADS: Final = 8
"""Downloads at the same time: a store answers after tens of milliseconds, however small a picture is."""

_AHEAD_BYTES: Final = 64 * 2**20
"""Bytes that are downloaded ahead; one file may be larger."""

_SORTED: Final = 100_000
"""Names in a folder that are sorted at once."""

Content = tuple[bytes | None, int]
"""A file's content, None if it is too large, and its size."""


class _Skips(Protocol):
    def __call__(self, name: str, *, is_folder: bool) -> bool: ...


@runtime_checkable
class Listing(Protocol):
    """A file system that lists a folder without holding all of it."""

    def entries(self, folder: str) -> Iterator[fs.FileInfo]:
        """Yields the entries of a folder; raises an `OSError` where it cannot be listed."""
        ...


class ChangedError(OSError):
    """A file had another size when it was read than when it was listed."""


class StoreFolder:
    """A folder in an object store.

    The names in one folder are sorted some at a time; stores list them sorted. On Spark memory does not depend on their
    number; elsewhere Arrow holds those of one folder at once, about 300 bytes each.
    """

    def __init__(self, uri: str) -> None:
        """Opens the store.

        Raises:
            EngineError: The URI's scheme is unknown, or the store cannot be reached.
        """
        self._uri = uri.rstrip("/")
        self._system, root = file_system(self._uri)
        self._root = root.rstrip("/")

    def exists(self) -> bool:
        """Checks whether there is such a folder; raises an `OSError` where the store cannot tell."""
        return bool(self._system.get_file_info(self._root).type == fs.FileType.Directory)

    def files(self, skips: _Skips, refuse: Callable[[str, str], object]) -> Iterator[tuple[str, fs.FileInfo]]:
        """Yields the files below the folder, by rising path as far as names are sorted together.

        Args:
            skips: Says of the name of a file or folder whether it is passed over.
            refuse: Called with the path and the reason for a folder that cannot be listed.

        Returns:
            The path relative to the folder, with slashes, and what the store tells about the file.
        """
        levels = [self._entries(self._root, skips, refuse)]
        while levels:
            info = next(levels[-1], None)
            if info is None:
                levels.pop()
            elif info.type == fs.FileType.Directory:
                levels.append(self._entries(info.path.rstrip("/"), skips, refuse))
            else:
                yield info.path[len(self._root) :].lstrip("/"), info

    def _entries(self, folder: str, skips: _Skips, refuse: Callable[[str, str], object]) -> Iterator[fs.FileInfo]:
        listing = self._listing(folder)
        while True:
            try:
                lot = list(islice(listing, _SORTED))
            except OSError as error:
                refuse(folder, error.strerror or "unreadable")
                return
            if not lot:
                return
            named = []
            for info in lot:
                name = PurePosixPath(info.path).name
                is_folder = info.type == fs.FileType.Directory
                if (is_folder or info.type == fs.FileType.File) and not skips(name, is_folder=is_folder):
                    named.append((f"{name}/" if is_folder else name, info))  # so it sorts as the paths below it do
            for _, info in sorted(named, key=lambda pair: pair[0]):
                yield info

    def _listing(self, folder: str) -> Iterator[fs.FileInfo]:
        """Yields the entries of a folder; Hadoop's connectors list page by page, Arrow's list at once."""
        handler = getattr(self._system, "handler", None)
        if isinstance(handler, Listing):
            yield from handler.entries(folder)
        else:
            yield from self._system.get_file_info(fs.FileSelector(folder))

    def location(self, path: str) -> str:
        """Returns the URI of a file below the folder."""
        return join(self._uri, path)

    def first_bytes(self, info: fs.FileInfo) -> bytes:
        """Reads the first bytes of a file, which tell its kind; raises an `OSError` where it cannot be read."""
        with self._system.open_input_stream(info.path) as stream:
            return bytes(stream.read(SIGNATURE_BYTES))

    def read_ahead(
        self, files: Sequence[tuple[str, fs.FileInfo]], max_bytes: int
    ) -> Iterator[tuple[str, Callable[[], Content]]]:
        """Yields the files in their order, while the next ones are downloaded.

        Args:
            files: Paths and what the store tells about them.
            max_bytes: Larger files are not read.

        Returns:
            The path, and a function that returns the content and the size, or raises an `OSError`.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            waiting: deque[tuple[str, int, Future[Content]]] = deque()
            ahead = 0
            for path, info in files:
                size = min(info.size, max_bytes)
                while waiting and (ahead + size > _AHEAD_BYTES or len(waiting) >= 2 * _THREADS):
                    first, bytes_of_first, future = waiting.popleft()
                    yield first, future.result
                    ahead -= bytes_of_first
                waiting.append((path, size, pool.submit(self._read, info, max_bytes)))
                ahead += size
            for first, _, future in waiting:
                yield first, future.result

    def _read(self, info: fs.FileInfo, max_bytes: int) -> Content:
        if info.size > max_bytes:
            return None, info.size
        with self._system.open_input_stream(info.path) as stream:
            content = stream.read(info.size + 1)
        # Half an upload would be stored as a damaged image. The next run will find the whole file.
        if len(content) != info.size:
            raise ChangedError(info.path)
        return content, info.size
