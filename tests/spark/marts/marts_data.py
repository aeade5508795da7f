"""Faces and image results made by hand, with a calibration that fits them, for tests of marts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from conftest import Engine
from pyspark.sql.types import StringType, StructField, StructType, TimestampType

from faceattr_udf.attributes.predictor import model_record
from faceattr_udf.config import AttributesConfig, OutputConfig
from faceattr_udf.shares.calibration_file import LABELS, Calibration, load_calibration
from faceattr_udf.shares.statistics import AGE_GROUP
from faceattr_udf.spark.schemas import IMAGE_RESULTS, faces_table

PASSED = (
    StructField("path", StringType()),
    StructField("catalog", StringType()),
    StructField("captured_at", TimestampType()),
)
ROW = dict[str, Any]


def shipped_calibration() -> Calibration:
    calibration = load_calibration(model_record(AttributesConfig()))
    assert calibration is not None
    return calibration


MODEL = f"mtcnn-test+{model_record(AttributesConfig()).model_version}"


def face(image_id: str, index: int = 0, **values: Any) -> ROW:
    """Returns a row of faces; attributes are given as their probabilities, `gender=(0.9, 0.1)`, or left out."""
    quality = dict.fromkeys(("blur", "brightness", "yaw", "pitch", "roll"), 0.5) | {
        "face_px": values.pop("face_px", 100.0)
    }
    row: ROW = {
        "image_id": image_id,
        "face_index": index,
        "age": values.pop("age", 30.0),
        "config_id": "c",
        "model_version": MODEL,
        "run_id": "run-1",
        "processed_at": datetime(2026, 3, 9, 1, tzinfo=UTC),
        "catalog": "shoes",
        "captured_at": datetime(2026, 3, 3, 12, tzinfo=UTC),
        "quality": quality,
    }
    for attribute, labels in LABELS.items():
        probs = values.pop(attribute, None)
        if probs is not None:
            best = int(np.nanargmax(probs))
            row[f"{attribute}_probs"] = dict(zip(labels, map(float, probs), strict=True))
            row[attribute] = labels[best] if attribute == AGE_GROUP or probs[best] >= 0.55 else None
            row[f"{attribute}_confidence"] = float(probs[best])
    return row | values


def result(image_id: str, n_faces: int = 1, status: str | None = None, **values: Any) -> ROW:
    row = {
        "image_id": image_id,
        "status": status or ("ok" if n_faces else "no_face"),
        "n_faces": n_faces,
        "config_id": "c",
        "model_version": MODEL,
        "run_id": "run-1",
        "processed_at": datetime(2026, 3, 9, 1, tzinfo=UTC),
    }
    return row | values


@dataclass(frozen=True)
class Night:
    """The rows of both tables."""

    faces: list[ROW]
    results: list[ROW]


def night(n_images: int = 120, seed: int = 1) -> Night:
    """Returns photographs of two catalogs over ten days, scored as the calibration says the model does."""
    rng = np.random.default_rng(seed)
    calibration = shipped_calibration()
    faces, results = [], []
    for number in range(n_images):
        name, n_faces = f"{number:03d}.jpg", int(rng.choice([0, 1, 1, 2, 3, 7]))
        place = {
            "catalog": ["shoes", "hats"][number % 2],
            "captured_at": datetime(2026, 2, 27 + number % 2, tzinfo=UTC)
            if number % 5 == 0
            else datetime(2026, 3, 1 + number % 8, tzinfo=UTC),
        }
        results.append(result(name, n_faces))
        for index in range(n_faces):
            scores = {}
            for attribute, labels in LABELS.items():
                means = calibration.attributes[attribute].scores["pacc"]["pooled"].means
                scores[attribute] = tuple(rng.dirichlet(3 * means[rng.integers(len(labels))] + 0.05))
            age = float(10 * np.argmax(scores[AGE_GROUP]) + 5)
            faces.append(face(name, index, age=age, face_px=float(rng.integers(25, 160)), **place, **scores))
    results += [
        result("broken.jpg", 0, "corrupt", error="the image's header is damaged or cut short"),
        result("huge.jpg", 0, "too_large", error="9 x 9 pixels are more than images.max_pixels = 2"),
    ]
    return Night(faces, results)


def faces_schema(without: tuple[str, ...] = (), more: tuple[StructField, ...] = ()) -> StructType:
    fields = faces_table(OutputConfig(), [*PASSED, *more]).fields
    return StructType([field for field in fields if field.name not in without])


def write(engine: Engine, folder: Path, rows: Night, schema: StructType | None = None) -> None:
    """Writes both tables, or replaces their rows."""
    for name, table, columns in (
        ("faces", rows.faces, schema or faces_schema()),
        ("image_results", rows.results, IMAGE_RESULTS),
    ):
        values = [tuple(row.get(column) for column in columns.fieldNames()) for row in table]
        frame = engine.session.createDataFrame(values, columns)
        frame.write.format("delta").mode("overwrite").save(str(folder / name))


def read(engine: Engine, folder: Path, name: str) -> list[ROW]:
    """Returns the rows of a mart, in an order that does not depend on the engine."""
    rows = [row.asDict() for row in engine.read(folder / "marts" / name).collect()]
    return sorted(rows, key=lambda row: [str(value) for value in row.values() if not isinstance(value, float)])


def commits(folder: Path) -> Mapping[str, int]:
    """Returns the number of commits of every mart."""
    return {
        path.name: len(list((path / "_delta_log").glob("*.json")))
        for path in (folder / "marts").iterdir()
        if (path / "_delta_log").is_dir()
    }
