"""Labeled faces made from the demo's photographs, for tests of training that run on any machine.

Each of the eight people gets one made-up set of labels, so that every class occurs and a network can memorize them.
That is enough to test that training learns; tests of accuracy need the real data.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance, ImageOps

from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.labels import CLASSES

# Source -> labels that its faces have, as in the real sources.
SOURCES = {
    "utkface": ("age", "gender", "ethnicity"),
    "fer2013": ("emotion",),
    "muxspace": ("gender", "ethnicity", "emotion", "identity"),
    "aaf": ("age", "gender"),
    "iog": ("age_range", "gender"),
}
SIDE = 128
SCHEMA = pa.schema(
    [("image_id", pa.string()), ("image", pa.binary()), ("source", pa.string())]
    + [(name, pa.float32()) for name in ("age", "age_min", "age_max")]
    + [(name, pa.string()) for name in ("gender", "ethnicity", "emotion", "identity")]
)


def write_labeled_faces(photos: Path, folder: Path, sizes: dict[str, int]) -> None:
    """Writes `faces-SPLIT.parquet` with the given number of faces; splits share people but no images."""
    faces = [face for path in sorted(photos.rglob("*.*")) for face in _loose_crops(path)]
    random = np.random.default_rng(0)
    number = 0
    for split, count in sizes.items():
        rows = []
        for _ in range(count):
            person = number % len(faces)
            source = list(SOURCES)[number // len(faces) % len(SOURCES)]
            rows.append(_row(f"{split}/{number}", _varied(faces[person], random), source, person))
            number += 1
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / f"faces-{split}.parquet")


def _loose_crops(path: Path) -> Iterator[Image.Image]:
    image = Image.open(path).convert("RGB")
    (found,) = Detector(DetectorConfig(min_face_size=40)).detect([np.asarray(image)])
    for left, top, right, bottom in found.boxes:
        x, y, half = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top)
        yield image.crop((int(x - half), int(y - half), int(x + half), int(y + half))).resize((SIDE, SIDE))


def _varied(face: Image.Image, random: np.random.Generator) -> Image.Image:
    if random.random() < 0.5:
        face = ImageOps.mirror(face)
    face = face.rotate(float(random.uniform(-12, 12)), resample=Image.Resampling.BILINEAR)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        face = enhance(face).enhance(float(random.uniform(0.7, 1.3)))
    return face


def _row(image_id: str, face: Image.Image, source: str, person: int) -> dict[str, Any]:
    encoded = io.BytesIO()
    face.save(encoded, "WEBP", quality=90)
    row: dict[str, Any] = {"image_id": image_id, "image": encoded.getvalue(), "source": source}
    labels = SOURCES[source]
    age = 10.0 * person + 4.0  # one in every age group
    if "age" in labels:
        row |= {"age": age, "age_min": age, "age_max": age}
    if "age_range" in labels:
        row |= {"age_min": age - 3.0, "age_max": age + 3.0}
    row |= {name: names[person % len(names)] for name, names in CLASSES.items() if name in labels}
    if "identity" in labels:
        row["identity"] = f"person {person}"
    return row
