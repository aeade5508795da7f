"""Output tables that tests write themselves, so that no model runs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from faceattr_udf.config import OutputConfig
from faceattr_udf.spark.locations import output_ref
from faceattr_udf.spark.own_session import engine_of
from faceattr_udf.spark.schemas import IMAGE_RESULTS, faces_table
from faceattr_udf.spark.tables import Tables

PROVENANCE: dict[str, Any] = {
    "config_id": "c",
    "model_version": "m",
    "run_id": "r",
    "processed_at": datetime(2026, 1, 2, tzinfo=UTC),
}


def face_row(image_id: str, face_index: int, **changes: Any) -> dict[str, Any]:
    left = 20.0 + 100 * face_index
    face: dict[str, Any] = {
        "image_id": image_id,
        "face_index": face_index,
        "bbox": {"x_min": left, "y_min": 20.0, "x_max": left + 60, "y_max": 90.0},
        "det_confidence": 0.99,
        "age": 33.6,
        "age_low": 27.0,
        "age_high": 41.0,
        "age_group": "30-39",
        "quality": {"face_px": 60.0, "blur": 0.1, "brightness": 0.5, "yaw": 0.0, "pitch": 0.0, "roll": 0.0},
    }
    for attribute, label in (("gender", "female"), ("ethnicity", "indian"), ("emotion", "happiness")):
        face |= {attribute: label, f"{attribute}_confidence": 0.91, f"{attribute}_probs": {label: 0.91}}
    return face | PROVENANCE | changes


def write_tables(
    spark: SparkSession,
    folder: Path,
    faces: list[dict[str, Any]],
    statuses: dict[str, str],
    hashes: dict[str, str] | None = None,
) -> None:
    """Writes the tables faces and image_results, with a row of the latter for every status."""
    tables = Tables(spark, engine_of(spark))
    results = [
        {
            "image_id": image_id,
            "content_sha256": (hashes or {}).get(image_id),
            "status": status,
            "width": 400,
            "height": 200,
            "n_faces": sum(face["image_id"] == image_id for face in faces),
        }
        | PROVENANCE
        for image_id, status in statuses.items()
    ]
    for name, rows, schema in (
        ("faces", faces, faces_table(OutputConfig())),
        ("image_results", results, IMAGE_RESULTS),
    ):
        ref = output_ref(name, str(folder))
        tables.ensure(ref, schema)
        if rows:
            ordered = [tuple(row.get(field) for field in schema.fieldNames()) for row in rows]
            tables.append(ref, spark.createDataFrame(ordered, schema))
