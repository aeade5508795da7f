"""Hadoop's file systems, through the JVM of a classic Spark session, as a file system of Arrow.

Spark writes tables with Hadoop's connectors, credentials and endpoints. Where this process has a JVM, the lease and the
staging area use the same, so whatever Spark reaches they reach as well: HDFS, viewfs, `fs.s3a.endpoint`, assumed roles.
Content passes through the gateway's socket, so this is for small files and for pictures one by one, not for tables.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import pyarrow as pa
from py4j.protocol import Py4JError, Py4JJavaError
from pyarrow import fs
from pyspark import SparkContext
from pyspark.sql.utils import is_remote

_NOT_HERE: Final = ("UnsupportedFileSystemException", "ClassNotFoundException", "Py4JSecurityException")
"""Exceptions of a Hadoop without the scheme's connector, and of platforms that close their JVM to Python."""

_T = TypeVar("_T")


def hadoop_file_system(uri: str) -> tuple[fs.FileSystem, str] | None:
    """Returns the file system of a URI and the path in it.

    Returns:
        None where this process has no classic session, its Hadoop has no connector for the scheme, or the platform does
        not let Python use it.

    Raises:
        OSError: Hadoop cannot reach the store.
    """
    context: Any = SparkContext._active_spark_context
    if context is None or is_remote():
        return None
    scheme, _, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    with _os_errors(uri):
        try:
            jvm = context._jvm
            place = jvm.org.apache.hadoop.fs.Path(scheme, authority or None, "/")
            system = place.getFileSystem(context._jsc.hadoopConfiguration())
        except Py4JError as error:
            if any(name in str(error) for name in _NOT_HERE):
                return None
            raise
    return fs.PyFileSystem(_Hadoop(jvm, system, scheme, authority)), slash + path


@contextmanager
def _os_errors(path: str) -> Iterator[None]:
    """Turns the JVM's exceptions into the `OSError` that Arrow's own file systems would raise."""
    try:
        yield
    except Py4JJavaError as error:
        name, text = str(error.java_exception.getClass().getSimpleName()), str(error.java_exception.toString())
        kinds = {"FileNotFoundException": FileNotFoundError, "AccessControlException": PermissionError}
        raise kinds.get(name, OSError)(f"{path}: {text.splitlines()[0]}") from error
    except Py4JError as error:
        msg = f"{path}: the JVM does not answer ({error})"
        raise OSError(msg) from error


class _Hadoop(fs.FileSystemHandler):
    """Arrow's calls as Hadoop's."""

    def __init__(self, jvm: Any, system: Any, scheme: str, authority: str) -> None:  # noqa: ANN401 - Java objects
        self._jvm = jvm
        self._system = system
        self._scheme = scheme
        self._authority = authority

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hadoop) and (self._scheme, self._authority) == (other._scheme, other._authority)

    def __hash__(self) -> int:
        return hash((self._scheme, self._authority))

    def _path(self, path: str) -> Any:  # noqa: ANN401 - a Java object
        # From its parts, so that "%" and blanks stand for themselves, as they do in Spark's paths.
        return self._jvm.org.apache.hadoop.fs.Path(self._scheme, self._authority or None, path or "/")

    def _call(self, path: str, act: Callable[[Any], _T]) -> _T:
        with _os_errors(path):
            return act(self._path(path))

    def get_type_name(self) -> str:
        return "hadoop"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: str | list[str]) -> list[fs.FileInfo]:
        found = []
        for path in [paths] if isinstance(paths, str) else paths:
            try:
                found.append(_info(path, self._call(path, self._system.getFileStatus)))
            except FileNotFoundError:
                found.append(fs.FileInfo(path, fs.FileType.NotFound))
        return found

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        try:
            return list(self.entries(selector.base_dir, recursive=selector.recursive))
        except FileNotFoundError:
            if selector.allow_not_found:
                return []
            raise

    def entries(self, folder: str, *, recursive: bool = False) -> Iterator[fs.FileInfo]:
        """Yields the entries of a folder, page by page where the connector does."""
        entries = self._call(folder, self._system.listStatusIterator)
        while True:
            with _os_errors(folder):
                entry = entries.next() if entries.hasNext() else None
            if entry is None:
                return
            info = _info(f"{folder.rstrip('/')}/{entry.getPath().getName()}", entry)
            yield info
            if recursive and info.type == fs.FileType.Directory:
                yield from self.entries(info.path, recursive=True)

    def create_dir(self, path: str, recursive: bool) -> None:  # noqa: ARG002 - Arrow's signature
        self._call(path, self._system.mkdirs)

    def delete_dir(self, path: str) -> None:
        self._delete(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        selector = fs.FileSelector(path, allow_not_found=missing_dir_ok)
        for info in self.get_file_info_selector(selector):
            self._delete(info.path)

    def delete_root_dir_contents(self) -> None:
        msg = "the root of a store is never emptied"
        raise NotImplementedError(msg)

    def delete_file(self, path: str) -> None:
        self._delete(path)

    def _delete(self, path: str) -> None:
        if not self._call(path, lambda place: self._system.delete(place, True)):
            raise FileNotFoundError(path)

    def move(self, src: str, dest: str) -> None:
        def rename(place: Any) -> bool:  # noqa: ANN401 - a Java object
            return bool(self._system.rename(place, self._path(dest)))

        if self._call(src, rename):
            return
        # Hadoop answers "false" for whatever is wrong; a destination that exists is the one case that can be helped.
        (source,) = self.get_file_info([src])
        if source.type == fs.FileType.NotFound:
            raise FileNotFoundError(src)
        self._call(dest, lambda place: self._system.delete(place, False))
        if not self._call(src, rename):
            msg = f"{src} cannot be renamed to {dest}"
            raise OSError(msg)

    def copy_file(self, src: str, dest: str) -> None:
        with self.open_output_stream(dest, None) as stream:
            stream.write(self._bytes(src))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(self._bytes(path))

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(self._bytes(path))

    def _bytes(self, path: str) -> bytes:
        def read(place: Any) -> bytes:  # noqa: ANN401 - a Java object
            stream = self._system.open(place)
            try:
                return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
            finally:
                stream.close()

        return self._call(path, read)

    def open_output_stream(self, path: str, metadata: object) -> pa.NativeFile:  # noqa: ARG002 - Arrow's signature
        stream = self._call(path, lambda place: self._system.create(place, True))
        return pa.PythonFile(_Writer(path, stream), mode="w")

    def open_append_stream(self, path: str, metadata: object) -> pa.NativeFile:
        msg = "object stores cannot append"
        raise NotImplementedError(msg)


class _Writer(io.RawIOBase):
    """A Java output stream as a file."""

    def __init__(self, path: str, stream: Any) -> None:  # noqa: ANN401 - a Java object
        self._path = path
        self._stream = stream
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 - whatever has a buffer
        content = bytearray(data)
        with _os_errors(self._path):
            self._stream.write(content)
        self._written += len(content)
        return len(content)

    def tell(self) -> int:
        return self._written

    def close(self) -> None:
        if not self.closed:
            super().close()
            with _os_errors(self._path):
                self._stream.close()


def _info(path: str, status: Any) -> fs.FileInfo:  # noqa: ANN401 - a Java object
    if status.isDirectory():
        return fs.FileInfo(path, fs.FileType.Directory)
    return fs.FileInfo(path, fs.FileType.File, size=int(status.getLen()), mtime=status.getModificationTime() / 1000)
