"""Deletes rows of the tables, and gives images past the retention period their status."""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.results import EXPIRED, ImageStatus
from faceattr_udf.spark.erasure.resolve import id_frame
from faceattr_udf.spark.locations import Outputs, TableRef
from faceattr_udf.spark.schemas import IMAGE_RESULTS
from faceattr_udf.spark.tables import Tables


class Rows:
    """The rows of one output.

    Args:
        tables: The engine's table operations.
        outputs: The output tables.
    """

    def __init__(self, tables: Tables, outputs: Outputs) -> None:
        self._tables, self._outputs, self._spark = tables, outputs, tables.spark

    def derived_before(self, moment: datetime) -> list[str]:
        """Returns the images with faces that were derived before a moment."""
        faces = self._tables.find(self._outputs.faces)
        if faces is None:
            return []
        old = faces.where(F.col("processed_at") < F.lit(moment)).select("image_id").distinct()
        return sorted(row["image_id"] for row in old.collect())

    def expire(self, image_ids: list[str]) -> None:
        """Gives images the status expired."""
        if not image_ids:
            return
        results = self._tables.read(self._outputs.image_results)
        few = id_frame(self._spark, image_ids, "_expired")
        changed = {"status": str(ImageStatus.EXPIRED), "error": EXPIRED}
        nothing = {"width": None, "height": None, "n_faces": 0}
        types = {field.name: field.dataType for field in IMAGE_RESULTS}
        columns = [
            F.lit({**changed, **nothing}[name]).cast(types[name]).alias(name)
            if name in {*changed, *nothing}
            else F.col(name)
            for name in IMAGE_RESULTS.fieldNames()
        ]
        rows = F.broadcast(few).join(results, F.col("_expired") == F.col("image_id"), "inner").select(*columns)
        self._tables.merge(self._outputs.image_results, rows, ["image_id"])

    def delete(self, ref: TableRef, key: str, values: list[str]) -> int:
        """Deletes the rows with some keys; a join finds them, so that the log holds no key."""
        frame = self._tables.find(ref)
        if frame is None or not values:
            return 0
        few = id_frame(self._spark, values, key)
        few = few.select(F.col(key).cast(frame.schema[key].dataType).alias(key))
        found: DataFrame = frame.select(key).join(F.broadcast(few), key, "left_semi")
        count = found.count()
        if count:
            self._tables.delete(ref, few, key)
        return count

    def without_faces(self, image_ids: list[str]) -> set[str]:
        """Leaves out images that have faces again: consent was given again, or there is another content."""
        faces = self._tables.find(self._outputs.faces)
        if faces is None or not image_ids:
            return set(image_ids)
        few = id_frame(self._spark, image_ids, "image_id")
        present = faces.select("image_id").join(F.broadcast(few), "image_id", "left_semi").distinct()
        return set(image_ids) - {row["image_id"] for row in present.collect()}
