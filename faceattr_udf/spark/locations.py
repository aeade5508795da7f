"""Locations of tables and files: paths, URIs and catalog names."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from faceattr_udf.config import Config
from faceattr_udf.errors import EngineError, TableNotFoundError
from faceattr_udf.sanitize import first_line

_NAME = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*){0,2}$")


@dataclass(frozen=True)
class TableRef:
    """Where a table is.

    Attributes:
        location: An absolute path, a URI, or a catalog name.
        format: "delta" and "parquet" are at a path or URI, "table" is in Spark's catalog.
    """

    location: str
    format: Literal["delta", "parquet", "table"]

    @property
    def sql(self) -> str:
        """The table's identifier in SQL."""
        if self.format == "table":
            return ".".join(quoted(part) for part in self.location.split("."))
        return "delta." + quoted(self.location)

    def __str__(self) -> str:
        return self.location


def local_path(location: str) -> Path | None:
    """Returns the path of a location on this machine's file system; None for other URIs.

    >>> local_path("file:///a/b%20c"), local_path("s3://bucket/key")
    (PosixPath('/a/b c'), None)
    """
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in location else Path(location)


def holds_data(path: Path) -> bool:
    """Checks whether a path is a file or a folder with visible entries.

    Engines ignore names that begin with "_" or "."; a killed job may leave a folder with nothing else.
    """
    return path.is_file() or (path.is_dir() and any(not entry.name.startswith(("_", ".")) for entry in path.iterdir()))


def file_system(location: str) -> tuple[fs.FileSystem, str]:
    """Returns the file system of a path or URI, and the path in it.

    Of a URI it is Hadoop's where this process has a classic Spark session, which reaches whatever Spark reaches, and
    Arrow's elsewhere: Spark Connect gives no access to Spark's own file systems.

    Raises:
        EngineError: The URI's scheme is unknown, or the store cannot be reached.
    """
    path = local_path(location)
    if path is not None:
        return fs.LocalFileSystem(), str(path)
    try:
        return _hadoop(location) or _arrow(location)
    except (OSError, ValueError) as error:
        msg = (
            f"{location} cannot be opened ({first_line(error)}); use a path or a URI that the engine and Arrow know "
            "(s3, gs, abfss, hdfs), and give Spark the store's connector"
        )
        raise EngineError(msg) from error


def _hadoop(location: str) -> tuple[fs.FileSystem, str] | None:
    if "pyspark" not in sys.modules:  # then no session has started
        return None
    from faceattr_udf.spark.hadoop_fs import hadoop_file_system  # noqa: PLC0415

    return hadoop_file_system(location)


def _arrow(location: str) -> tuple[fs.FileSystem, str]:
    uri = arrow_uri(location)
    scheme, separator, rest = uri.partition("://")
    store, slash, path = rest.partition("/")
    if scheme not in {"s3", "gs"} or "?" in rest:
        return fs.FileSystem.from_uri(uri)
    # Arrow would refuse a blank in a URI and decode "%20". Engines take both as they are.
    system, root = fs.FileSystem.from_uri(scheme + separator + store)
    return system, root + slash + path


def arrow_uri(location: str) -> str:
    """Returns a URI with the scheme that Arrow knows: s3 for Hadoop's s3a and s3n.

    >>> arrow_uri("s3a://bucket/key"), arrow_uri("gs://bucket/key")
    ('s3://bucket/key', 'gs://bucket/key')
    """
    scheme, separator, rest = location.partition("://")
    return ("s3" if scheme in {"s3a", "s3n"} else scheme) + separator + rest


def join(folder: str, *names: str) -> str:
    """Returns the location of a path below a folder; the folder is a path or a URI."""
    return "/".join([folder.rstrip("/"), *names])


def absolute(location: str) -> str:
    """Returns a location that does not depend on the working directory."""
    return location if "://" in location else str(Path(location).absolute())


def input_ref(location: str, config: Config) -> TableRef:
    """Returns the reference of a table to read; `input.format` "auto" detects the format.

    Raises:
        TableNotFoundError: `location` is a path on this machine that does not exist.
    """
    table_format = config.input.format
    if table_format == "table":
        return TableRef(location, "table")
    path = local_path(location)
    if path is not None and not path.exists():
        if table_format == "auto" and "/" not in location and _NAME.match(location):
            return TableRef(location, "table")
        msg = f"table {location} does not exist; name a Delta table or Parquet folder, or write one with jobs.ingest"
        raise TableNotFoundError(msg)
    if table_format == "auto":
        if path is None:
            # Only the engine can look there. Its error says whether the guess was wrong.
            return TableRef(location, "parquet" if location.endswith(".parquet") else "delta")
        table_format = "delta" if (path / "_delta_log").is_dir() else "parquet"
    return TableRef(absolute(location), table_format)


def output_ref(name: str, folder: str) -> TableRef:
    """Returns the reference of an output table: a catalog name if `name` has a dot, else a folder below `folder`."""
    if "." in name and _NAME.match(name):
        return TableRef(name, "table")
    return TableRef(absolute(name if "/" in name else join(folder, name)), "delta")


@dataclass(frozen=True)
class Outputs:
    """The output tables of a run.

    Attributes:
        folder: The output folder: the staging area and the lease are below it.
        faces: One row per face.
        image_results: One row per image.
        runs: One row per run.
    """

    folder: str
    faces: TableRef
    image_results: TableRef
    runs: TableRef

    @property
    def tables(self) -> dict[str, TableRef]:
        """The tables by their standard names; the configuration may call them otherwise."""
        return {"faces": self.faces, "image_results": self.image_results, "runs": self.runs}

    @classmethod
    def of(cls, config: Config, folder: str) -> "Outputs":
        """Returns the configured tables, below a folder or in the catalog."""
        names = config.output
        return cls(
            absolute(folder),
            output_ref(names.faces, folder),
            output_ref(names.image_results, folder),
            output_ref(names.runs, folder),
        )


def quoted(name: str) -> str:
    """Returns a name as a quoted SQL identifier.

    >>> quoted("odd`name")
    '`odd``name`'
    """
    return "`" + name.replace("`", "``") + "`"
