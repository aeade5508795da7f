"""Explains what is held about images or subjects, and why: for requests of access (GDPR art. 15)."""

import base64
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any, Final

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.engine_errors import explained
from faceattr_udf.spark.enrichment.consents import ConsentTable
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.input_columns import SUBJECT, InputColumns, wanted_columns
from faceattr_udf.spark.locations import Outputs, input_ref
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.tables import Tables
from faceattr_udf.spark.tombstone_table import TombstoneTable

NOT_HELD: Final = (
    "the content of images: only their columns other than the content are listed",
    "versions of the tables before the last vacuum, and backups",
    "copies that others made: exports, reports, pictures with drawn faces",
    "aggregates that were computed from the faces",
)
"""What was not looked at, in the words of the file."""
_NO_KEY: Final = "tombstones of erased images, because privacy.key_file is not set"

_RUN_COLUMNS: Final = (
    *("run_id", "started_at", "finished_at", "state", "model_version", "config_id", "purpose", "legal_basis"),
    *("jurisdictions", "context", "policy_sha256", "policy"),
)
_ID: Final = "_explained_id"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Explanation:
    """What is held.

    Attributes:
        data: Plain data for a JSON file, with ids and everything about them.
        counts: How much of it there is, without ids: images asked for, in the images table, with a result, and faces.
    """

    data: Mapping[str, Any]
    counts: Mapping[str, int]


def explain(
    spark: SparkSession,
    config: Config,
    images: str,
    output: str,
    *,
    image_ids: Iterable[str] = (),
    subject_ids: Iterable[str] = (),
) -> Explanation:
    """Collects everything that the tables hold about images, or about all images of subjects.

    Ids never become part of an SQL text, an error or a log line.

    Args:
        spark: As for `enrich`.
        config: The configuration of the runs.
        images: The images table.
        output: The folder of the output tables.
        image_ids: The images.
        subject_ids: The subjects, as text; their images are found by the column `consent.subject` of the images table
            and of faces.

    Raises:
        FaceattrError: A table is missing or has the wrong columns.
    """
    with adopted(spark, config) as fitting, explained("the tables cannot be read", "check the access to them"):
        return _Search(spark, fitting, images, output).explain(sorted(set(image_ids)), sorted(set(subject_ids)))


class _Search:
    def __init__(self, spark: SparkSession, config: Config, images: str, output: str) -> None:
        self._config = config
        self._spark = spark
        self._tables = Tables(spark, config.engine.name)
        self._name = images
        ref = input_ref(qualified(spark, images), config)
        self._images = self._tables.read_images(ref, wanted_columns(config)).frame
        self._columns = InputColumns.check(self._images.schema, images, config)
        outputs = Outputs.of(config, qualified(spark, output))
        self._tombstones = TombstoneTable(self._tables, config, outputs.folder)
        self._outputs = {name: self._tables.find(table) for name, table in outputs.tables.items()}
        self._consents = ConsentTable.open(self._tables, config)

    def explain(self, image_ids: list[str], subject_ids: list[str]) -> Explanation:
        now = datetime.now(UTC)
        ids = sorted({*image_ids, *self._images_of(subject_ids)})
        own = self._columns.image_id
        content = self._columns.content_column
        rows = _by_id(self._found(self._images.withColumn(_ID, own), ids, _ID), _ID, leave_out=content)
        held = {name: self._held(name, ids) for name in ("image_results", "faces")}
        consents, agreed = self._consents_of(rows, now)
        runs = self._runs(row for found in held.values() for some in found.values() for row in some)
        tombstones = self._tombstones.about({one: self._contents(one, rows, held["image_results"]) for one in ids})
        described = []
        for image_id in ids:
            of_image = rows.get(image_id, [])
            results = held["image_results"].get(image_id, [])
            faces = sorted(held["faces"].get(image_id, []), key=itemgetter("face_index"))
            described.append(
                {
                    "image_id": image_id,
                    "images": of_image,
                    "consent": self._consent(of_image, consents, agreed),
                    "image_results": results,
                    "faces": faces,
                    "tombstones": [_plain_row(row.asDict()) for row in (tombstones or {}).get(image_id, [])],
                    "run_ids": sorted({row["run_id"] for row in (*results, *faces) if row.get("run_id")}),
                }
            )
        counts = {
            "images": len(ids),
            "in_images_table": len(rows),
            "with_result": len(held["image_results"]),
            "faces": sum(map(len, held["faces"].values())),
        }
        log.info("explained", **counts)
        data = {
            "asked_at": now.isoformat(),
            "subject_ids": subject_ids,
            "images": described,
            "runs": runs,
            "not_looked_at": [*NOT_HELD, *([_NO_KEY] if tombstones is None else [])],
        }
        return Explanation(data, counts)

    def _contents(self, image_id: str, *tables: Mapping[str, list[dict[str, Any]]]) -> set[str]:
        """Returns the hashes of an image's contents that tables hold."""
        names = (self._config.input.columns.content_sha256, "content_sha256")
        rows = (row for table in tables for row in table.get(image_id, []))
        return {row[name] for row in rows for name in names if row.get(name)}

    def _images_of(self, subject_ids: list[str]) -> set[str]:
        """Returns the images of subjects, by the images table and by the faces that are held."""
        if not subject_ids:
            return set()
        name = self._config.consent.subject
        faces = self._outputs["faces"]
        places = [(self._images, self._columns.image_id)]
        places += [(faces, F.col("image_id"))] if faces is not None else []
        found: set[str] = set()
        known = [(frame, own) for frame, own in places if name in frame.columns]
        if not known:
            msg = f"table {self._name} has no column {name!r} of subjects; set consent.subject to the right column"
            raise SchemaError(msg)
        for frame, own in known:
            subjects = frame.select(own.alias("_image"), F.col(quoted(name)).cast("string").alias(_ID))
            found |= {row["_image"] for row in self._found(subjects, subject_ids, _ID).collect() if row["_image"]}
        return found

    def _found(self, frame: DataFrame, ids: Collection[str], column: str) -> DataFrame:
        """Returns the rows with one of these ids; the ids are data, not part of the query."""
        wanted = self._spark.createDataFrame([(one,) for one in ids], "_wanted string")
        return F.broadcast(wanted).join(frame, F.col("_wanted") == F.col(column), "inner").drop("_wanted")

    def _held(self, name: str, ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        frame = self._outputs[name]
        return {} if frame is None else _by_id(self._found(frame, ids, "image_id"), "image_id")

    def _consents_of(
        self, rows: Mapping[str, list[dict[str, Any]]], now: datetime
    ) -> tuple[dict[str, list[dict[str, Any]]], set[str]]:
        """Returns the rows of consent by subject, and the subjects that agree now."""
        subject = self._columns.subject_column
        if self._consents is None or subject is None:
            return {}, set()
        ids = {str(row[subject]) for some in rows.values() for row in some if row.get(subject) is not None}
        frame = self._consents.frame.withColumn(_ID, F.col("subject_id").cast("string"))
        agreed = self._found(self._consents.subjects(now), ids, SUBJECT)
        return _by_id(self._found(frame, ids, _ID), _ID), {row[SUBJECT] for row in agreed.collect()}

    def _consent(
        self, of_image: list[dict[str, Any]], consents: Mapping[str, list[dict[str, Any]]], agreed: Collection[str]
    ) -> dict[str, Any]:
        """Returns how it is decided whether an image may be analyzed: every row of the image must agree."""
        config = self._config
        asked: dict[str, Any] = {"column": None, "table": None, "agrees": None}
        decided = []
        if config.input.require_consent:
            values = [row.get(config.input.columns.consent) for row in of_image]
            asked["column"] = {"name": config.input.columns.consent, "values": values}
            decided += [value is True for value in values]
        subject = self._columns.subject_column
        if subject is not None:
            subjects = [None if row.get(subject) is None else str(row[subject]) for row in of_image]
            held = [row for one in dict.fromkeys(subjects) if one is not None for row in consents.get(one, [])]
            asked["table"] = {"name": config.consent.table, "purpose": config.privacy.purpose, "rows": held}
            decided += [one in agreed for one in subjects]
        if decided:
            asked["agrees"] = all(decided)
        return asked

    def _runs(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the runs that wrote rows: with their purpose, legal basis and policy."""
        frame, ids = self._outputs["runs"], {row["run_id"] for row in rows if row.get("run_id")}
        if frame is None or not ids:
            return []
        columns = [name for name in _RUN_COLUMNS if name in frame.columns]
        found = [
            _plain_row(row.asDict(recursive=True))
            for row in self._found(frame.select(*columns), ids, "run_id").collect()
        ]
        for row in found:
            row["policy"] = json.loads(row["policy"]) if row.get("policy") else None
        return sorted(found, key=lambda row: str(row["started_at"]))


def _by_id(frame: DataFrame, column: str, leave_out: str = "") -> dict[str, list[dict[str, Any]]]:
    """Returns the rows as plain data by their id, without the column of ids that was added."""
    names = [name for name in frame.columns if name != leave_out]
    found: dict[str, list[dict[str, Any]]] = {}
    for row in frame.select(*(F.col(quoted(name)) for name in names)).collect():
        values = row.asDict(recursive=True)
        found.setdefault(values[column], []).append(_plain_row(values))
    return found


def _plain_row(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in values.items() if name != _ID}


def _plain(value: Any) -> Any:  # noqa: ANN401 - a value of any column
    """Returns a value as JSON can hold it: times in ISO 8601, bytes in base64.

    >>> _plain({"at": datetime(2026, 1, 2, tzinfo=UTC), "crop": bytearray(b"ab"), "share": Decimal("0.5")})
    {'at': '2026-01-02T00:00:00+00:00', 'crop': {'base64': 'YWI='}, 'share': '0.5'}
    """
    if isinstance(value, bytes | bytearray):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
