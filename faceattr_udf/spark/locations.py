"""Locations of tables and files: paths, URIs and catalog names."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError, EngineError, TableNotFoundError
from faceattr_udf.sanitize import first_line
from faceattr_udf.spark.catalog_names import quoted, quoted_name, split_name

_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)(.*)", re.DOTALL)
"""A scheme has two letters at least; one letter is a drive."""

_WITH_BUCKET: Final = frozenset({"s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "wasb", "wasbs", "http", "https"})
"""Schemes whose URIs name a bucket or a host, so they need two slashes."""

DRIFT_LEASE: Final = "_lease_drift"
"""Names the lease of writers of the drift table, which do not wait for a run."""

MAINTENANCE_LEASE: Final = "_lease_maintain"
"""Names the lease of maintenance, which an erasure takes, too: on Spark maintenance does not wait for a run."""

LEASES: Final = ("_lease", DRIFT_LEASE, MAINTENANCE_LEASE)
"""Subfolders of the output folder with the files of leases."""

_RESERVED: Final = frozenset({"_staging", "_ingest", "_erasure", *LEASES})
"""Folders that jobs keep beside the tables."""


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
            return quoted_name(self.location)
        return "delta." + quoted(self.location)

    def __str__(self) -> str:
        return self.location


def local_path(location: str) -> Path | None:
    """Returns the path of a location on this machine's file system; None for other URIs.

    >>> local_path("file:///a/b%20c"), local_path("s3://bucket/key")
    (PosixPath('/a/b c'), None)
    """
    uri = _URI.fullmatch(location)
    if uri is None:
        return Path(location)
    return Path(unquote(urlsplit(location).path)) if uri[1].lower() == "file" else None


def has_scheme(location: str) -> bool:
    """Checks whether a location is a URI.

    >>> has_scheme("hdfs:/data"), has_scheme("C:/data"), has_scheme("a:b")
    (True, False, False)
    """
    return _URI.fullmatch(location) is not None


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


def refuse_inside_delta(location: str, what: str, fix: str) -> None:
    """Checks that no folder above a location is a Delta table.

    The files there may be deleted from that table and wait for a vacuum, and the vacuum deletes files that others put
    there.

    Args:
        location: An absolute path or a URI. Where Arrow does not reach a store, nothing is checked.
        what: Names the location in the error.
        fix: What to do instead.

    Raises:
        ConfigError: A folder above it has a `_delta_log`.
    """
    try:
        system, name = file_system(location)
        for parent in PurePosixPath(os.path.realpath(name) if local_path(location) else name).parents:
            if parent.name and system.get_file_info(str(parent / "_delta_log")).type == fs.FileType.Directory:
                msg = f"{what} is inside the Delta table {parent}, which owns all files there; {fix}"
                raise ConfigError(msg)
    except (EngineError, OSError):
        return


def is_inside(location: str, folder: str) -> bool:
    """Checks whether a location is a folder or lies below it.

    >>> is_inside("/a/b/c", "/a/b"), is_inside("/a/b", "/a/b"), is_inside("/a/bc", "/a/b")
    (True, True, False)
    """
    inner, outer = (_real(place).rstrip("/") for place in (location, folder))
    return inner == outer or inner.startswith(outer + "/")


def _real(location: str) -> str:
    path = local_path(location)
    return arrow_uri(location) if path is None else os.path.realpath(path)


def join(folder: str, *names: str) -> str:
    """Returns the location of a path below a folder; the folder is a path or a URI."""
    return "/".join([folder.rstrip("/"), *names])


def absolute(location: str, what: str = "the location") -> str:
    """Returns a location that does not depend on the working directory.

    A path may begin with `~`. URIs get the slashes that every engine understands.

    Args:
        location: A path or a URI.
        what: Names the location in errors.

    Raises:
        ConfigError: The location is empty, or a URI without its bucket.

    >>> absolute("hdfs:/data"), absolute("s3://bucket/images"), absolute("/data/../images")
    ('hdfs:///data', 's3://bucket/images', '/data/../images')
    """
    if not location.strip():
        msg = f"{what} is empty; name a folder or a URI"
        raise ConfigError(msg)
    uri = _URI.fullmatch(location)
    if uri is None:
        return str(Path(os.path.expanduser(location)).absolute())  # noqa: PTH111 - Path's raises for an unknown user
    scheme, slashes, rest = uri.groups()
    if scheme.lower() not in _WITH_BUCKET:
        return location if len(slashes) == 2 else f"{scheme}:///{rest}"
    if len(slashes) != 2 or not rest.strip("/"):
        msg = f"{what} {location} is no complete URI; write {scheme}://{rest.strip('/') or 'BUCKET/FOLDER'}"
        raise ConfigError(msg)
    return location


def input_ref(location: str, config: Config) -> TableRef:
    """Returns the reference of a table to read; `input.format` "auto" detects the format.

    Raises:
        ConfigError: `location` is empty, a URI without its bucket, or a folder inside a Delta table.
        TableNotFoundError: `location` is a path on this machine that does not exist.
    """
    table_format = config.input.format
    if table_format == "table":
        return _catalog_ref(location, "input.format is table, and --images")
    place = absolute(location, "the images table")
    path = local_path(place)
    if path is not None and not path.exists():
        if table_format == "auto" and split_name(location) is not None:
            return _catalog_ref(location, "--images")
        msg = f"table {location} does not exist; name a Delta table or Parquet folder, or write one with jobs.ingest"
        raise TableNotFoundError(msg)
    if table_format == "auto":
        if path is None:
            # Only the engine can look there. Its error says whether the guess was wrong.
            table_format = "parquet" if place.endswith(".parquet") else "delta"
        else:
            table_format = "delta" if (path / "_delta_log").is_dir() else "parquet"
    if table_format == "parquet":
        refuse_inside_delta(place, f"table {location}", "name that table")
    return TableRef(place, table_format)


def ingested_ref(location: str, table_format: Literal["delta", "parquet"]) -> TableRef:
    """Returns the reference of an images table to write to.

    Args:
        location: A path, a URI, or a catalog name with a dot.
        table_format: The format of a new table; an existing one keeps its format.

    Raises:
        ConfigError: `location` is empty, a URI without its bucket, or a folder inside a Delta table.
    """
    parts = split_name(location) or ()
    if len(parts) > 1 and not Path(location).exists():
        return _catalog_ref(location, "--images")
    place = absolute(location, "the images table")
    path = local_path(place)
    if path is not None and (path / "_delta_log").is_dir():
        return TableRef(place, "delta")
    refuse_inside_delta(place, f"table {location}", "name another folder")
    if path is not None and holds_data(path):
        return TableRef(place, "parquet")
    return TableRef(place, table_format)


def output_ref(name: str, folder: str, what: str = "the table") -> TableRef:
    """Returns the reference of an output table.

    Args:
        name: Without a dot the name of a folder below `folder`; with a dot a catalog name; or an absolute path or URI.
        folder: The output folder.
        what: Names the table in errors.

    Raises:
        ConfigError: The name is none of these.
    """
    if _URI.fullmatch(name) or name.startswith(("/", "~")):
        return TableRef(absolute(name, what), "delta")
    parts = split_name(name)
    if parts is not None and len(parts) > 1:
        return _catalog_ref(name, what)
    if "." in name or "/" in name or not name.strip() or name in _RESERVED or "`" in name:
        msg = (
            f"{what} = {name!r} is no name of a table; use a folder's name without dots and slashes, a catalog name "
            "like schema.table, or an absolute path"
        )
        raise ConfigError(msg)
    return TableRef(absolute(join(folder, name)), "delta")


def _catalog_ref(name: str, what: str) -> TableRef:
    if split_name(name) is None or "${" in name:
        msg = f"{what} = {name!r} is no name of a table; write catalog.schema.table, with backticks around odd parts"
        raise ConfigError(msg)
    return TableRef(name, "table")


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
        """Returns the configured tables, below a folder or in the catalog.

        Raises:
            ConfigError: A name or the folder is none, or two tables have the same name.
        """
        place = absolute(folder, "the output folder")
        names = {name: getattr(config.output, name) for name in ("faces", "image_results", "runs")}
        refs = {name: output_ref(given, place, f"output.{name}") for name, given in names.items()}
        if len({ref.sql.casefold() for ref in refs.values()}) < len(refs):
            msg = f"two of {', '.join(f'output.{name} = {given}' for name, given in names.items())} are the same table"
            raise ConfigError(f"{msg}; give each a name of its own")
        return cls(place, **refs)

    def beside(self, name: str, given: str, others: Mapping[str, TableRef] | None = None) -> TableRef:
        """Returns where a further table of the output is.

        Args:
            name: Its key in the section [output].
            given: The value of that key.
            others: Name -> further tables whose names it must not have.

        Raises:
            ConfigError: Its name is none, or that of another table.
        """
        ref = output_ref(given, self.folder, f"output.{name}")
        for taken, other in {**self.tables, **(others or {})}.items():
            if other.sql.casefold() == ref.sql.casefold():
                msg = f"output.{name} = {given!r} is the table output.{taken}; give it a name of its own"
                raise ConfigError(msg)
        return ref

    def refuse_inside(self, folder: str, contents: str) -> None:
        """Checks that no output table lies inside or around the folder of other tables.

        Args:
            folder: The folder.
            contents: What goes there, for the error.

        Raises:
            ConfigError: Naming the table.
        """
        for name, ref in self.tables.items():
            if ref.format == "delta" and (is_inside(ref.location, folder) or is_inside(folder, ref.location)):
                msg = f"output.{name} = {ref} is where {contents} go; give the table another name"
                raise ConfigError(msg)

    def refuse_overlap(self, images: TableRef) -> None:
        """Checks that no output table lies inside the images table or inside another Delta table, or around it.

        Engines read a folder of Parquet files with its subfolders, and a vacuum of a Delta table deletes files that are
        not its own.

        Raises:
            ConfigError: Naming the two; or the output folder is below a file.
        """
        path = local_path(self.folder)
        file = next((place for place in (path, *path.parents) if place.is_file()), None) if path is not None else None
        if file is not None:
            msg = f"the output folder {self.folder} is below the file {file}; set --output to another folder"
            raise ConfigError(msg)
        places = {f"output table {name}": ref for name, ref in self.tables.items()}
        for what, ref in places.items():
            if ref.format == "table" or images.format == "table":
                if ref.format == images.format and ref.sql.casefold() == images.sql.casefold():
                    msg = f"{what} is the images table {images}; give it another name"
                    raise ConfigError(msg)
                continue
            if is_inside(ref.location, images.location) or is_inside(images.location, ref.location):
                msg = f"{what} at {ref} and the images table {images} lie in each other; set --output to another folder"
                raise ConfigError(msg)
            refuse_inside_delta(ref.location, f"{what} at {ref}", "set --output to another folder")
        if images.format != "table":
            kept = [join(self.folder, name) for name in sorted(_RESERVED)]
            if is_inside(self.folder, images.location) or any(is_inside(images.location, place) for place in kept):
                msg = (
                    f"the output folder {self.folder} is inside the images table {images}; set --output to another one"
                )
                raise ConfigError(msg)
        refuse_inside_delta(self.folder, f"the output folder {self.folder}", "set --output to another folder")
