"""The tables that an erasure cleans, and what is in its way there, found before anything is touched."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pyarrow import fs

from faceattr_udf.config import Config
from faceattr_udf.errors import EngineError, SchemaError
from faceattr_udf.spark.delta_features import DeltaFeatures
from faceattr_udf.spark.locations import Outputs, TableRef, file_system
from faceattr_udf.spark.maintenance.delta_ops import DeltaOperations
from faceattr_udf.spark.marts.layout import MARTS, mart_refs
from faceattr_udf.spark.tables import Tables

_MANAGED: Final = frozenset({"catalogManaged", "catalogOwned", "catalogOwned-preview"})
"""Features with which a catalog, not the folder, decides about commits."""


@dataclass(frozen=True)
class Place:
    """A table to clean.

    Attributes:
        name: Its standard name.
        ref: The table.
        location: Its folder.
    """

    name: str
    ref: TableRef
    location: str

    @property
    def is_mart(self) -> bool:
        """Whether `faceattr marts` writes it."""
        return self.name in MARTS


def find_places(
    tables: Tables, operations: DeltaOperations, config: Config, outputs: Outputs, images: TableRef | None
) -> list[Place]:
    """Returns the existing tables that hold images or are computed from them.

    Raises:
        FaceattrError: The engine cannot clean one of them, or nobody could prove that it is clean.
    """
    refs = {"faces": outputs.faces, "image_results": outputs.image_results, **mart_refs(outputs.folder)}
    refs |= {"images": images} if images is not None else {}
    return list(_checked(tables, operations, config, refs))


def _checked(tables: Tables, operations: DeltaOperations, config: Config, refs: dict[str, TableRef]) -> Iterator[Place]:
    for name, ref in refs.items():
        if ref.format == "parquet":
            msg = (
                f"the images table {ref} is plain Parquet, in which no row can be deleted safely; remove the rows "
                "yourself (faceattr explain lists the images of subjects), then run without --images"
            )
            raise EngineError(msg)
        if tables.find(ref) is None:
            continue
        location = operations.current_version(ref).location
        _refuse_features(tables.features(ref), ref, config.engine.name)
        _refuse_unlisted(location, ref)
        if any(_is_elsewhere(path, location) for path in operations.data_files(ref)):
            msg = (
                f"table {ref} is a shallow clone: its rows are in files of another table; write its rows to a new "
                "table, and erase from both"
            )
            raise SchemaError(msg)
        yield Place(name, ref, location)


def _refuse_features(features: DeltaFeatures, ref: TableRef, engine: str) -> None:
    features.refuse(ref, engine)
    found = sorted(features.writer_features & {*_MANAGED, "v2Checkpoint"})
    if engine == "sail":
        # Its vacuum takes the files of deletion vectors for left-overs, and it cannot rewrite mapped columns.
        found += sorted(features.writer_features & {"deletionVectors", "columnMapping"})
        if not found and features.properties.get("delta.columnMapping.mode", "none") != "none":
            found.append("columnMapping")
    if found:
        fix = (
            f"remove it with ALTER TABLE {ref.sql} DROP FEATURE {found[0]}"
            if found[0] not in {"deletionVectors", "columnMapping"}
            else "set engine.name=spark"
        )
        msg = f"table {ref} has the feature {found[0]}, with which engine {engine} cannot erase; {fix}"
        raise SchemaError(msg)


def _refuse_unlisted(location: str, ref: TableRef) -> None:
    try:
        system, folder = file_system(location)
        system.get_file_info(fs.FileSelector(folder))
    except (EngineError, OSError) as error:
        msg = (
            f"the files of table {ref} cannot be listed ({error}), so nobody could prove that an id is gone; give this "
            "process access to its folder"
        )
        raise EngineError(msg) from error


def _is_elsewhere(path: str, location: str) -> bool:
    """Checks whether a data file, relative to its table or not, lies outside of the table."""
    absolute = path.startswith("/") or ":/" in path
    return absolute and not file_system(path)[1].startswith(file_system(location)[1].rstrip("/") + "/")
