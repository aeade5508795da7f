"""Converts DataTurks exports to the table of labeled faces.

An export is JSON Lines with one photograph per line, or a JSON array of photographs, and has a list of labels per box.
What cannot be read is rejected and counted; it does not end the import. Labels are mapped as follows:

| DataTurks | ours |
|---|---|
| `G_Male`, `G_ Female` | gender male, female |
| `E_White`, `E_Black`, `E_Asian`, `E_Indian` | ethnicity white, black, asian, indian |
| `E_Hispanic`, `E_Arab` | ethnicity latino_hispanic, middle_eastern |
| `others` | ethnicity others, which stands for either of these two classes, see `labels.COARSE_LABELS` |
| `Emotion_Happy`, `_Sad`, `_Angry`, `_Neutral` | emotion happiness, sadness, anger, neutral |
| `Age_below20`, `Age_20_30`, `Age_30_40` | age_min and age_max 0-19, 20-29, 30-39 |
| `Age_40_50`, `Age_above_50` | 40-49, 50-100 |
| `Face` | a face without attributes |
| `Not_Face` | no face: the box is rejected, whatever its other labels |
"""

import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from PIL import Image

from faceattr_udf.arrays import UInt8Array
from faceattr_udf.config import ImagesConfig
from faceattr_udf.datasets.json_entries import Entry, read_entries
from faceattr_udf.errors import ImageError, SchemaError
from faceattr_udf.images.decode import decode_image
from faceattr_udf.labels import ATTRIBUTES, OTHERS
from faceattr_udf.results import BOX_SIDES

LABELS: Final[dict[str, tuple[str, Any]]] = {
    "G_Male": ("gender", "male"),
    "G_Female": ("gender", "female"),
    "E_White": ("ethnicity", "white"),
    "E_Black": ("ethnicity", "black"),
    "E_Asian": ("ethnicity", "asian"),
    "E_Indian": ("ethnicity", "indian"),
    "E_Hispanic": ("ethnicity", "latino_hispanic"),
    "E_Arab": ("ethnicity", "middle_eastern"),
    "others": ("ethnicity", OTHERS),
    "Emotion_Happy": ("emotion", "happiness"),
    "Emotion_Sad": ("emotion", "sadness"),
    "Emotion_Angry": ("emotion", "anger"),
    "Emotion_Neutral": ("emotion", "neutral"),
    "Age_below20": ("age", (0.0, 19.0)),
    "Age_20_30": ("age", (20.0, 29.0)),
    "Age_30_40": ("age", (30.0, 39.0)),
    "Age_40_50": ("age", (40.0, 49.0)),
    "Age_above_50": ("age", (50.0, 100.0)),
}
"""Label of DataTurks without spaces -> attribute and value."""

FACE: Final = "Face"
NOT_FACE: Final = "Not_Face"

_TEXT = pa.string()
_COLUMNS: dict[str, pa.DataType] = {
    **{"image_id": _TEXT, "image": pa.binary(), "source": _TEXT},
    **{"age": pa.float32(), "age_min": pa.float32(), "age_max": pa.float32()},
    **{"gender": _TEXT, "ethnicity": _TEXT, "emotion": _TEXT, "identity": _TEXT, "photograph": _TEXT},
    "box": pa.struct([(side, pa.float64()) for side in BOX_SIDES]),
}
SCHEMA: Final = pa.schema(_COLUMNS)
"""The labeled-faces table, plus the photograph's name and the face's box in pixels of the photograph."""

# Crops include half the face's size on every side, so that the detector finds the face again.
_CONTEXT = 0.5


@dataclass(slots=True)
class ImportReport:
    """Counts and problems of an import.

    Attributes:
        photographs: Number of lines with a photograph.
        boxes: Number of boxes.
        faces: Number of boxes that became rows.
        rejected: Location ("PHOTOGRAPH#INDEX" of a box, or a photograph or line) -> reason.
        noted: Location -> what was repaired or is missing in a row that was kept.
    """

    photographs: int = 0
    boxes: int = 0
    faces: int = 0
    rejected: dict[str, str] = field(default_factory=dict)
    noted: dict[str, list[str]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Returns the counts, with problems counted by reason, as plain data."""
        rejected = Counter(reason.partition(":")[0] for reason in self.rejected.values())
        noted = Counter(note.partition(":")[0] for notes in self.noted.values() for note in notes)
        return {
            "photographs": self.photographs,
            "boxes": self.boxes,
            "faces": self.faces,
            "rejected": dict(rejected.most_common()),
            "noted": dict(noted.most_common()),
        }


def read_export(
    path: Path, photographs: Path | None = None, limits: ImagesConfig | None = None
) -> tuple[pa.Table, ImportReport]:
    """Reads one export.

    Args:
        path: JSON Lines file, or a JSON array of its lines.
        photographs: Folder with the photographs, named like the last part of their URLs; None leaves `image` null.
        limits: Bounds on a photograph; None means the defaults.

    Returns:
        Rows of `SCHEMA` in the order of the file, and the report.

    Raises:
        TableNotFoundError: The file cannot be read.
        SchemaError: The file has no annotated photograph.
    """
    report = ImportReport()
    rows = []
    for entry in read_entries(path):
        rows += list(_photograph(entry, report, photographs, limits or ImagesConfig()))
    if not report.photographs:
        first = next((f" ({where}: {reason})" for where, reason in report.rejected.items()), " (it is empty)")
        msg = (
            f"DataTurks export {path} has no annotated photograph{first}; pass JSON Lines of objects with the fields "
            "content and annotation"
        )
        raise SchemaError(msg)
    report.faces = len(rows)
    return pa.Table.from_pylist(rows, schema=SCHEMA), report


def _photograph(
    entry: Entry, report: ImportReport, photographs: Path | None, limits: ImagesConfig
) -> Iterator[dict[str, Any]]:
    try:
        name, boxes = _name_and_boxes(entry)
    except (ValueError, TypeError, KeyError) as error:
        report.rejected[entry.location] = f"not an annotated photograph: {error.args[0]}"
        return
    report.photographs += 1
    if not boxes:
        report.rejected[name] = "no boxes"
        return
    report.boxes += len(boxes)
    pixels: UInt8Array | None = None
    if photographs is not None:
        try:
            pixels = decode_image((photographs / name).read_bytes(), limits)
        except (OSError, ValueError, ImageError) as error:
            reason = f"photograph cannot be read: {error.strerror if isinstance(error, OSError) else error}"
            report.rejected |= {f"{name}#{index}": reason for index in range(len(boxes))}
            return
    for index, box in enumerate(boxes):
        row = _face(box, f"{name}#{index}", report, pixels)
        if row is not None:
            yield {**row, "photograph": name}


def _name_and_boxes(entry: Entry) -> tuple[str, list[Any]]:
    """Returns the photograph's name, and its boxes as they are.

    Raises:
        ValueError: The entry is not valid JSON, or a text is not valid Unicode.
        TypeError: The entry or a field has another type.
        KeyError: A field is missing.
    """
    if entry.problem is not None:
        raise ValueError(entry.problem)
    if not isinstance(entry.value, dict):
        msg = f"{type(entry.value).__name__} instead of an object"
        raise TypeError(msg)
    for name in ("content", "annotation"):
        if name not in entry.value:
            msg = f"no field {name}"
            raise KeyError(msg)
    content, boxes = entry.value["content"], entry.value["annotation"]
    if not isinstance(content, str):
        msg = f"content is {type(content).__name__} instead of text"
        raise TypeError(msg)
    if not isinstance(boxes, list | dict | None):
        msg = f"annotation is {type(boxes).__name__} instead of a list"
        raise TypeError(msg)
    name = content.rpartition("/")[2]
    if re.search("[\0\ud800-\udfff]", name):
        msg = "content has characters that no name has"
        raise ValueError(msg)
    return name, [boxes] if isinstance(boxes, dict) else boxes or []


def _labels(box: object) -> list[str]:
    """Returns a box's labels without spaces; one label may also be text instead of a list.

    Raises:
        TypeError: The box is not an object, or its labels are not text.
    """
    if not isinstance(box, dict):
        msg = f"{type(box).__name__} instead of an object"
        raise TypeError(msg)
    given = box.get("label") or []
    labels = [given] if isinstance(given, str) else given
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        msg = "labels that are not text"
        raise TypeError(msg)
    return [re.sub(r"\s", "", label) for label in labels]


def _face(box: Any, location: str, report: ImportReport, pixels: UInt8Array | None) -> dict[str, Any] | None:  # noqa: ANN401 - any JSON
    try:
        labels = _labels(box)
    except TypeError as error:
        report.rejected[location] = f"no usable box: {error}"
        return None
    if NOT_FACE in labels:
        report.rejected[location] = "labeled Not_Face"
        return None
    if not labels:
        report.rejected[location] = "no label"
        return None
    try:
        corners, swapped = _corners(box, pixels)
    except (TypeError, KeyError, ValueError, IndexError, OverflowError) as error:
        report.rejected[location] = f"no usable box: {error or type(error).__name__}"
        return None
    notes = ["corners swapped: reordered"] if swapped else []
    values = _values(labels, notes)
    if notes:
        report.noted[location] = notes
    low, high = values["age"] or (None, None)
    return {
        "image_id": location,
        "image": None if pixels is None else _crop(pixels, corners),
        "source": "dataturks",
        "age": None,
        "age_min": low,
        "age_max": high,
        **{name: values[name] for name in ("gender", "ethnicity", "emotion")},
        "identity": None,
        "box": dict(zip(BOX_SIDES, corners, strict=True)),
    }


def _corners(box: dict[str, Any], pixels: UInt8Array | None) -> tuple[list[float], bool]:
    """Returns the box in pixels, and whether its corners were in the wrong order.

    Raises:
        TypeError: A number has another type; likewise for the other exceptions of Python's conversions.
        ValueError: The box has no area inside the photograph.
    """
    # The size of the photograph itself is more reliable than the size in the export.
    height, width = pixels.shape[:2] if pixels is not None else (float(box["imageHeight"]), float(box["imageWidth"]))
    first, second = ([float(point[axis]) for axis in "xy"] for point in box["points"])
    if not all(math.isfinite(number) for number in (height, width, *first, *second)):
        msg = "numbers that are not finite"
        raise ValueError(msg)
    corners = []
    for start, end, extent in zip(first, second, (width, height), strict=True):
        ends = sorted(min(max(value, 0.0), 1.0) for value in (start, end))
        if not ends[0] < ends[1] or extent <= 0.0:
            msg = "no area inside the photograph"
            raise ValueError(msg)
        corners.append([edge * extent for edge in ends])
    swapped = first[0] > second[0] or first[1] > second[1]
    (left, right), (top, bottom) = corners
    return [left, top, right, bottom], swapped


def _values(labels: Sequence[str], notes: list[str]) -> dict[str, Any]:
    found: dict[str, set[Any]] = {name: set() for name in ATTRIBUTES}
    for label in labels:
        if label in LABELS:
            attribute, value = LABELS[label]
            found[attribute].add(value)
        elif label != FACE:
            notes.append(f"unknown label: {label}")
    if len(set(labels)) < len(labels):
        notes.append("duplicate label")
    values = {}
    for attribute, candidates in found.items():
        if len(candidates) > 1:
            notes.append(f"conflicting labels: {attribute} left out")
        elif not candidates and FACE not in labels:
            notes.append(f"{attribute} missing")
        values[attribute] = next(iter(candidates)) if len(candidates) == 1 else None
    return values


def _crop(pixels: UInt8Array, corners: Sequence[float]) -> bytes:
    """Encodes the face with half its size around it on every side as PNG."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = corners
    margin_x, margin_y = _CONTEXT * (right - left), _CONTEXT * (bottom - top)
    rows = slice(int(max(0.0, top - margin_y)), int(min(height, bottom + margin_y)) + 1)
    columns = slice(int(max(0.0, left - margin_x)), int(min(width, right + margin_x)) + 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels[rows, columns]).save(buffer, "PNG")
    return buffer.getvalue()
