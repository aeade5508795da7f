"""The table of tombstones: which images and contents were erased, as keyed hashes."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import StringType, StructField, StructType, TimestampType

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError
from faceattr_udf.privacy.tombstones import KeyedHash, Kind, Tombstones
from faceattr_udf.spark.locations import Outputs, is_inside, local_path, output_ref
from faceattr_udf.spark.tables import Tables

TOMBSTONES: Final = StructType(
    [
        *(StructField(name, StringType()) for name in ("kind", "key", "key_id", "erasure_id")),
        StructField("created_at", TimestampType()),
    ]
)


class TombstoneTable:
    """The tombstones of one output folder.

    Args:
        tables: The engine's table operations.
        config: Names the table and the key file.
        folder: The output folder.
    """

    def __init__(self, tables: Tables, config: Config, folder: str) -> None:
        self._tables = tables
        drift = output_ref(config.output.drift, folder)
        self.ref = Outputs.of(config, folder).beside("tombstones", config.output.tombstones, {"drift": drift})
        self._key_file = Path(config.privacy.key_file).expanduser() if config.privacy.key_file else None
        path = local_path(folder)
        if self._key_file and path is not None and is_inside(str(self._key_file.absolute()), str(path)):
            msg = f"privacy.key_file {self._key_file} lies beside the tables in {folder}; name a file outside of it"
            raise ConfigError(msg)

    def load(self) -> Tombstones | None:
        """Returns all tombstones; None if there are none.

        Raises:
            ConfigError: There are some, and the key file is not configured, cannot be read, or is another one.
        """
        frame = self._tables.find(self.ref)
        rows = [] if frame is None else frame.select("key", "key_id").distinct().collect()
        if not rows:
            return None
        if self._key_file is None:
            msg = (
                f"table {self.ref} has tombstones of erased images, which are recognized with a key only; set "
                "privacy.key_file to the file that faceattr erase was run with"
            )
            raise ConfigError(msg)
        keyed = KeyedHash.load(self._key_file)
        self._refuse_another(keyed, {row["key_id"] for row in rows})
        return Tombstones(keyed, frozenset(bytes.fromhex(row["key"]) for row in rows))

    def about(self, images: Mapping[str, Collection[str]]) -> dict[str, list[Row]] | None:
        """Returns the tombstones of images by image_id; None if there are some, but no key that tells of what.

        Args:
            images: image_id -> the SHA-256 hashes of its contents, as far as they are known.

        Raises:
            ConfigError: The key file cannot be read, or is another one.
        """
        frame = self._tables.find(self.ref)
        if frame is None:
            return {}
        if self._key_file is None:
            return None if frame.limit(1).count() else {}
        known = {row["key_id"] for row in frame.select("key_id").distinct().collect()}
        if not known:
            return {}
        keyed = KeyedHash.load(self._key_file)
        self._refuse_another(keyed, known)
        of_key: dict[str, list[str]] = {}
        for image_id, contents in images.items():
            keys = [keyed.key("image", image_id), *(keyed.key("content", one) for one in contents)]
            for key in keys:
                of_key.setdefault(key.hex(), []).append(image_id)
        wanted = self._tables.spark.createDataFrame([(key,) for key in of_key], "_key string")
        rows = F.broadcast(wanted).join(frame, F.col("_key") == F.col("key")).drop("_key").collect()
        found: dict[str, list[Row]] = {}
        for row in rows:
            for image_id in of_key[row["key"]]:
                found.setdefault(image_id, []).append(row)
        return found

    def open_key(self) -> KeyedHash:
        """Returns the key for new tombstones; makes it where there is none yet.

        Raises:
            ConfigError: It is not configured, cannot be read or written, or existing tombstones have another one.
        """
        if self._key_file is None:
            msg = (
                "an erasure needs a key that is kept outside the tables; set privacy.key_file to a file, which is made "
                "where there is none, and back it up"
            )
            raise ConfigError(msg)
        frame = self._tables.find(self.ref)
        known = set() if frame is None else {row["key_id"] for row in frame.select("key_id").distinct().collect()}
        keyed = KeyedHash.load(self._key_file) if known else KeyedHash.create(self._key_file)
        self._refuse_another(keyed, known)
        return keyed

    def _refuse_another(self, keyed: KeyedHash, known: Collection[str]) -> None:
        if set(known) - {keyed.key_id}:
            msg = (
                f"the tombstones in {self.ref} have the key {', '.join(sorted(known))}, and privacy.key_file "
                f"{self._key_file} holds {keyed.key_id}; name the file that they were made with"
            )
            raise ConfigError(msg)

    def add(
        self, keyed: KeyedHash, erasure_id: str, at: datetime, image_ids: Collection[str], contents: Collection[str]
    ) -> None:
        """Adds tombstones in one commit; can be repeated."""
        self._tables.ensure(self.ref, TOMBSTONES)
        values: tuple[tuple[Kind, Collection[str]], ...] = (("image", image_ids), ("content", contents))
        rows = [
            (kind, keyed.key(kind, value).hex(), keyed.key_id, erasure_id, at)
            for kind, some in values
            for value in sorted(set(some))
        ]
        if rows:
            frame = self._tables.spark.createDataFrame(rows, TOMBSTONES)
            self._tables.merge(self.ref, frame, ["kind", "key"])


def covered(images: DataFrame, tombstones: Tombstones) -> DataFrame:
    """Returns the image_ids of erased images.

    The hashes are computed in Python: in SQL the key would be part of plans and of Spark's event log.

    Args:
        images: image_id and content_sha256.
        tombstones: All tombstones.
    """
    return images.select("image_id", "content_sha256").mapInArrow(_Covered(tombstones).__call__, "image_id string")


@dataclass(frozen=True)
class _Covered:
    tombstones: Tombstones

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = zip(batch.column("image_id").to_pylist(), batch.column("content_sha256").to_pylist(), strict=True)
            found = [one for one, digest in rows if one is not None and self.tombstones.covers(one, digest)]
            yield pa.RecordBatch.from_pydict({"image_id": pa.array(found, pa.string())})
