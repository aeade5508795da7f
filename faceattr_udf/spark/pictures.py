"""Photographs with what the tables say about them drawn on: no model runs.

The workers decode and draw, because photographs are large and untrusted; what reaches the driver are JPEG files of a
bounded size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from operator import and_
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.images.annotate import Annotation
from faceattr_udf.images.face_text import face_lines
from faceattr_udf.results import BOX_SIDES, ImageStatus
from faceattr_udf.spark.drawing import PICTURES, DrawBatches
from faceattr_udf.spark.enrichment.consents import ConsentTable
from faceattr_udf.spark.enrichment.images_table import NULL_ID, ImagesTable
from faceattr_udf.spark.enrichment.wave_bounds import IdRange
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.input_columns import SUBJECT, wanted_columns
from faceattr_udf.spark.locations import Outputs, input_ref
from faceattr_udf.spark.slices import Condition, conditions_on
from faceattr_udf.spark.tables import Tables

_DECODED: Final = (ImageStatus.OK, ImageStatus.NO_FACE, ImageStatus.PARTIAL)
"""Statuses of images whose pixels a run has seen."""

_PIXELS_PER_SCAN: Final = 64_000_000
"""Of the pictures that are collected together, of less than a byte a pixel."""

_MAX_LABELS: Final = 60
"""Of the largest faces of a photograph; more would cover each other. The others get a box alone."""

_GONE: Final = "it is no longer in the images table, or has changed since the run"
_UNKNOWN: Final = "it has no row in image_results; enrich it first"


@dataclass(frozen=True, slots=True)
class Picture:
    """What became of one image.

    Attributes:
        image_id: The image.
        n_faces: The number of boxes.
        jpeg: The annotated photograph; None where there is a problem.
        problem: Why the photograph was not drawn.
    """

    image_id: str
    n_faces: int = 0
    jpeg: bytes | None = None
    problem: str | None = None


class Pictures:
    """The photographs of an images table, and what the output tables say about them."""

    def __init__(self, spark: SparkSession, config: Config, images: str, output: str) -> None:
        """Opens the tables.

        Args:
            spark: A session of `config.engine`.
            config: Names the tables and their columns, and bounds the images.
            images: The images table: a path, a URI, or a catalog name.
            output: The folder of the output tables.

        Raises:
            FaceattrError: A table is missing or has the wrong columns.
        """
        self._config = config
        tables = Tables(spark, config.engine.name)
        images_ref = input_ref(qualified(spark, images), config)
        outputs = Outputs.of(config, qualified(spark, output))
        frames = tables.read_images(images_ref, wanted_columns(config))
        found = ImagesTable.check(frames, images_ref, images, config)
        consents = ConsentTable.open(tables, config)
        agreed = None if consents is None else consents.subjects(datetime.now(UTC))
        # Not read by files, because only their ids are known.
        self._images = replace(found, files=None, consents=agreed)
        self._results, self._faces = tables.read(outputs.image_results), tables.read(outputs.faces)

    def conditions(self, pairs: Sequence[str]) -> list[Condition]:
        """Returns conditions on faces, or on images where faces lack the column.

        Args:
            pairs: `column=value` each.

        Raises:
            ConfigError: A pair has another form, or names a column that no condition can use.
        """
        return conditions_on(pairs, {"faces": self._faces.schema, "image_results": self._results.schema})

    def sample(self, conditions: Sequence[Condition], size: int, seed: int) -> tuple[list[str], int]:
        """Chooses images with a face that fits all conditions on faces, and that fit those on images.

        Args:
            conditions: From `conditions`.
            size: The largest number of images.
            seed: Chooses other images; the same on every engine.

        Returns:
            image_ids, sorted; and the number of images to choose from.
        """
        fitting = self._drawable(self._results)
        of_images = [condition.column for condition in conditions if condition.table == "image_results"]
        if of_images:
            fitting = fitting.where(reduce(and_, of_images))
        of_faces = [condition.column for condition in conditions if condition.table == "faces"]
        if of_faces:
            faces = self._faces.where(reduce(and_, of_faces)).select("image_id").distinct()
            fitting = fitting.join(faces, "image_id", "left_semi")
        order = F.sha2(F.concat(F.lit(f"{seed}:"), F.col("image_id")), 256)
        chosen = fitting.orderBy(order).limit(size).select("image_id").collect()
        return sorted(row["image_id"] for row in chosen), fitting.count()

    def draw(self, image_ids: Sequence[str], max_pixels: int) -> Iterator[Picture]:
        """Draws photographs, a few at a time.

        Args:
            image_ids: The images.
            max_pixels: Larger photographs are reduced to this many pixels.

        Yields:
            One picture per image_id, sorted.
        """
        step = max(1, _PIXELS_PER_SCAN // max_pixels)
        wanted = sorted(set(image_ids))
        for start in range(0, len(wanted), step):
            yield from self._draw_some(wanted[start : start + step], max_pixels)

    @staticmethod
    def _drawable(results: DataFrame) -> DataFrame:
        return results.where(F.col("status").isin([str(status) for status in _DECODED]))

    def _draw_some(self, image_ids: list[str], max_pixels: int) -> Iterator[Picture]:
        rows = self._results.where(F.col("image_id").isin(image_ids)).select("image_id", "status", "error").collect()
        known = {row["image_id"]: row for row in rows}
        annotations = self._annotations(image_ids)
        drawable = [image_id for image_id in image_ids if image_id in known and known[image_id]["status"] in _DECODED]
        drawn = self._drawn(drawable, annotations, max_pixels) if drawable else {}
        for image_id in image_ids:
            if image_id not in known:
                yield Picture(image_id, problem=_UNKNOWN)
            elif image_id not in drawable:
                row = known[image_id]
                yield Picture(image_id, problem=row["error"] or f"its status is {row['status']}")
            elif image_id not in drawn:
                yield Picture(image_id, problem=_GONE)
            else:
                jpeg, problem = drawn[image_id]
                yield Picture(image_id, len(annotations[image_id]), jpeg, problem)

    def _annotations(self, image_ids: Sequence[str]) -> dict[str, tuple[Annotation, ...]]:
        faces = self._faces.where(F.col("image_id").isin(list(image_ids)))
        described: dict[str, list[Annotation]] = {image_id: [] for image_id in image_ids}
        for row in faces.orderBy("image_id", "face_index").collect():
            of_image = described[row["image_id"]]
            lines = face_lines(row.asDict()) if len(of_image) < _MAX_LABELS else ()
            left, top, right, bottom = (row["bbox"][side] for side in BOX_SIDES)
            of_image.append(Annotation((left, top, right, bottom), lines))
        return {image_id: tuple(annotations) for image_id, annotations in described.items()}

    def _drawn(
        self, image_ids: list[str], annotations: Mapping[str, tuple[Annotation, ...]], max_pixels: int
    ) -> dict[str, tuple[bytes | None, str | None]]:
        """Returns JPEG and problem of those images that the images table still has."""
        draw = DrawBatches(self._config.model_dump_json(), annotations, max_pixels)
        found: dict[str, tuple[bytes | None, str | None]] = {}
        for contents in self._contents(image_ids):
            for row in contents.mapInArrow(draw.__call__, PICTURES).collect():
                picture = row["picture"]
                found[row["image_id"]] = (None if picture is None else bytes(picture), row["problem"])
        return found

    def _contents(self, image_ids: list[str]) -> Iterator[DataFrame]:
        """Yields image_id and content of images with the content that the run has seen."""
        wanted = self._results.where(F.col("image_id").isin(image_ids)).select("image_id", "content_sha256")
        subject = [] if self._images.columns.subject is None else [SUBJECT]
        if subject or self._config.input.require_consent:
            # Consents of now, not of the run.
            now = self._images.keys().where(F.col("image_id").isin(image_ids) & F.col("consented"))
            wanted = wanted.join(now.select("image_id", *subject), "image_id")
        by_content = [image_id for image_id in image_ids if image_id.startswith(NULL_ID)]
        named = [image_id for image_id in image_ids if not image_id.startswith(NULL_ID)]
        if named:
            yield self._images.contents(wanted, IdRange(named[0], named[-1]), (), named)
        if by_content:
            yield self._images.contents_by_hash(wanted, IdRange(by_content[0], by_content[-1]), ())
