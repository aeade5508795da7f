"""Table features that the owner of an output table, or their defaults, gave it; some are in the way of a run.

They are read from Delta's log, because the embedded engine notices them only when it commits.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow.parquet as pq
import structlog
from pyarrow import fs
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from faceattr_udf.errors import EngineError, SchemaError
from faceattr_udf.sanitize import first_line
from faceattr_udf.spark.locations import TableRef, file_system, join

_COMMIT: Final = re.compile(r"(\d{20})\.json")
_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint(\.\d+\.\d+)?\.parquet")

_NOT_ON_SAIL: Final = frozenset(
    {"rowTracking", "domainMetadata", "clustering", "icebergCompatV1", "icebergCompatV2", "icebergCompatV3"}
)
"""Features of a table to which the embedded engine does not commit."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DeltaFeatures:
    """The features of one table.

    Attributes:
        properties: Its table properties.
        writer_features: The features that writers must know.
        generated: Columns whose values Delta computes.
    """

    properties: Mapping[str, str] = field(default_factory=dict)
    writer_features: frozenset[str] = frozenset()
    generated: frozenset[str] = frozenset()

    @classmethod
    def read(cls, ref: TableRef) -> "DeltaFeatures":
        """Returns the features of a table by path; none where there is no table or Arrow does not reach it."""
        if ref.format != "delta":
            return cls()
        try:
            system, folder = file_system(join(ref.location, "_delta_log"))
            actions = _newest(system, folder)
        except (EngineError, OSError, ValueError) as error:
            log.info("delta_features_unknown", table=str(ref), reason=str(error))
            return cls()
        metadata, protocol = actions.get("metaData") or {}, actions.get("protocol") or {}
        columns = json.loads(metadata.get("schemaString") or '{"fields": []}')["fields"]
        generated = {
            column["name"]
            for column in columns
            if any(key.startswith(("delta.generationExpression", "delta.identity.")) for key in column["metadata"])
        }
        properties = dict(metadata.get("configuration") or {})
        return cls(properties, frozenset(protocol.get("writerFeatures") or ()), frozenset(generated))

    @classmethod
    def of_catalog(cls, spark: SparkSession, ref: TableRef) -> "DeltaFeatures":
        """Returns the features of a catalog table as Spark tells them; none where there is no Delta table."""
        try:
            row = spark.sql(f"DESCRIBE DETAIL {ref.sql}").first()
        except PySparkException as error:
            log.info("delta_features_unknown", table=str(ref), reason=first_line(error))
            return cls()
        detail = row.asDict() if row else {}
        features = frozenset(detail.get("tableFeatures") or ())
        return cls(detail.get("properties") or {}, features)

    def refuse(self, ref: TableRef, engine: str) -> None:
        """Checks that an engine can merge into the table.

        Raises:
            SchemaError: A feature is in the way; the message says how to remove it.
        """
        if self._is_on("delta.appendOnly"):
            raise SchemaError(_message(ref, "is append-only", "delta.appendOnly"))
        if engine != "sail":
            return
        if self._is_on("delta.enableChangeDataFeed"):
            what = "has a change data feed, which engine sail cannot write"
            raise SchemaError(_message(ref, what, "delta.enableChangeDataFeed"))
        self.refuse_unknown(ref)

    def refuse_unknown(self, ref: TableRef) -> None:
        """Checks that the table has no feature with which neither the embedded engine nor delta-rs commits to it.

        Raises:
            SchemaError: It has one; the message says how to remove it.
        """
        unknown = sorted(self.writer_features & _NOT_ON_SAIL)
        if unknown:
            msg = (
                f"table {ref} has the feature {unknown[0]}, which engine sail cannot write; set engine.name=spark, or "
                f"remove it there with ALTER TABLE {ref.sql} DROP FEATURE {unknown[0]}"
            )
            raise SchemaError(msg)

    def _is_on(self, name: str) -> bool:
        return self.properties.get(name, "false").lower() == "true"


def add_local_times(ref: TableRef) -> None:
    """Adds the feature of columns with local times to a table by path, with delta-rs.

    Raises:
        EngineError: The package deltalake is not installed, or the table is in a catalog.
    """
    try:
        import deltalake  # noqa: PLC0415
    except ImportError as error:
        msg = (
            f"table {ref} gets its first column of local times, which engine sail does only with the package deltalake "
            f"({error}); install the extra faceattr_udf[maintain], or write the column with a time zone"
        )
        raise EngineError(msg) from error
    if ref.format == "table":
        msg = f"engine sail cannot locate the catalog table {ref} for a column of local times; set engine.name=spark"
        raise EngineError(msg)
    table = deltalake.DeltaTable(ref.location)
    table.alter.add_feature(deltalake.TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True)


def _message(ref: TableRef, what: str, name: str) -> str:
    return (
        f"table {ref} {what}; turn it off with ALTER TABLE {ref.sql} SET TBLPROPERTIES ('{name}' = 'false') on Spark, "
        "or name another table"
    )


def _newest(system: fs.FileSystem, folder: str) -> dict[str, Any]:
    """Returns the latest `metaData` and `protocol` of a Delta log."""
    infos = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    named = sorted(((info.base_name, info.path) for info in infos), reverse=True)
    found: dict[str, Any] = {}
    for name, path in named:
        if _COMMIT.fullmatch(name):
            actions = _of_commit(system, path)
        elif _CHECKPOINT.fullmatch(name):
            actions = _of_checkpoint(system, path)
        else:
            continue
        for kind, action in actions:
            found.setdefault(kind, action)
        if len(found) == len(_KINDS):
            break
    return found


_KINDS: Final = ("metaData", "protocol")


def _of_commit(system: fs.FileSystem, path: str) -> Iterator[tuple[str, Any]]:
    with system.open_input_stream(path) as stream:
        lines = stream.read().splitlines()
    for line in lines:
        # The lines of files are long and many.
        if line.strip().startswith((b'{"metaData"', b'{"protocol"')):
            yield from json.loads(line).items()


def _of_checkpoint(system: fs.FileSystem, path: str) -> Iterator[tuple[str, Any]]:
    with system.open_input_file(path) as source:
        file = pq.ParquetFile(source)
        columns = [kind for kind in _KINDS if kind in file.schema_arrow.names]
        for batch in file.iter_batches(columns=columns):
            for row in batch.to_pylist():
                for kind, action in row.items():
                    if action is not None:
                        yield kind, _plain(action)


def _plain(action: dict[str, Any]) -> dict[str, Any]:
    """Returns an action of a checkpoint as in a commit: its maps are lists of pairs."""
    configuration = action.get("configuration")
    return {**action, "configuration": dict(configuration)} if configuration is not None else action
