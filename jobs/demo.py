"""Shows a person what a run wrote: statuses, faces, where the tables are, a query to try, and annotated photographs.

python -m jobs.demo --input photos --tables demo/sail/photos --pictures demo/sail/photos/pictures
"""

import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from pyspark.sql import DataFrame, Row

from faceattr_udf.command_line import configured_parser
from faceattr_udf.config import Config, ImagesConfig
from faceattr_udf.errors import FaceattrError, ImageError
from faceattr_udf.images.annotate import Annotation, annotate
from faceattr_udf.images.decode import decode_image
from faceattr_udf.sanitize import printable
from faceattr_udf.spark.locations import output_ref
from faceattr_udf.spark.safe_open import LeadsOutsideError, open_inside
from faceattr_udf.spark.session import start
from faceattr_udf.spark.tables import Tables

_QUERY: Final = """\
SELECT age_group, gender, count(*) AS faces, round(avg(emotion_probs['happiness']), 2) AS happiness
FROM {faces}
GROUP BY age_group, gender
ORDER BY age_group, gender"""

_MAX_ROWS: Final = 40
"""Faces that are printed: what a person reads; the table has them all."""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report and writes the pictures."""
    parser = configured_parser("demo", __doc__)
    parser.add_argument("--input", type=Path, required=True, metavar="FOLDER", help="the photographs")
    parser.add_argument("--tables", type=Path, required=True, metavar="FOLDER", help="what jobs.enrich wrote")
    parser.add_argument("--pictures", type=Path, required=True, metavar="FOLDER", help="where drawings go")
    parser.add_argument("--max-pictures", type=int, default=50, metavar="N", help="drawings at most (default 50)")
    arguments = parser.parse_args(argv)
    try:
        report(
            Config.load(arguments.config, arguments.overrides),
            arguments.input,
            arguments.tables,
            arguments.pictures,
            arguments.max_pictures,
        )
    except FaceattrError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    return 0


def report(config: Config, photographs: Path, tables: Path, pictures: Path, max_pictures: int) -> None:
    """Prints what is in the tables and draws it onto the photographs.

    Args:
        config: Names the engine and the tables.
        photographs: The folder that was enriched; image_id is a path relative to it.
        tables: The folder with the output tables.
        pictures: The folder the drawings go to; made when missing.
        max_pictures: Photographs that are drawn at most.

    Raises:
        FaceattrError: The engine or a table is missing.
    """
    spark = start(config)
    names = {"faces": config.output.faces, "image_results": config.output.image_results, "runs": config.output.runs}
    refs = {name: output_ref(configured, str(tables)) for name, configured in names.items()}
    reader = Tables(spark, config.engine.name)
    results = reader.read(refs["image_results"])
    faces = reader.read(refs["faces"])

    statuses = results.groupBy("status").count().orderBy("status").collect()
    rows = faces.orderBy("image_id", "face_index").limit(_MAX_ROWS).collect()
    total = faces.count()
    _title("Images by status")
    _print_table(("status", "images"), [(row["status"], str(row["count"])) for row in statuses])
    _title("Faces, as they are perceived")
    _print_table(("image", "face", "age", "gender", "ethnicity", "emotion"), [_cells(row) for row in rows])
    if total > len(rows):
        print(f"... and {total - len(rows)} more")

    _title("Tables (Delta)")
    for name, ref in refs.items():
        print(f"{name:14} {ref}")
    query = _QUERY.format(faces=refs["faces"].sql)
    _title("A query to try")
    print(query)
    print()
    answer = spark.sql(query)
    _print_table(answer.columns, [["" if cell is None else str(cell) for cell in row] for row in answer.collect()])

    drawn = draw(faces, photographs, pictures, config.images, max_pictures)
    _title("Annotated photographs")
    print(f"{len(drawn)} in {pictures.resolve()}")


def draw(faces: DataFrame, photographs: Path, pictures: Path, limits: ImagesConfig, max_pictures: int) -> list[Path]:
    """Writes photographs with their faces' boxes and attributes.

    Args:
        faces: The faces table.
        photographs: The folder that image_id is relative to.
        pictures: The folder the drawings go to.
        limits: Bounds on the photographs.
        max_pictures: Photographs that are drawn at most, by falling number of faces.

    Returns:
        The drawings' paths.
    """
    most_faces = faces.groupBy("image_id").count().orderBy("count", "image_id", ascending=[False, True])
    chosen = most_faces.limit(max_pictures).select("image_id")
    rows = faces.join(chosen, "image_id").orderBy("image_id", "face_index").collect()
    drawn = []
    for image_id, group in groupby(rows, key=lambda row: str(row["image_id"])):
        target = pictures / f"{image_id}.jpg"
        try:
            # The ids of a table are anybody's: "../x" shall neither be read nor written.
            if not target.resolve().is_relative_to(pictures.resolve()):
                msg = "its image_id leads out of the folder"
                raise LeadsOutsideError(msg)
            with open_inside(photographs, photographs / image_id) as file:
                image = decode_image(file.read(), limits)
        except (OSError, ImageError) as error:
            # The table remembers photographs that have since left the folder.
            print(printable(f"{image_id} is not drawn: {error}"), file=sys.stderr)
            continue
        annotations = [
            Annotation((box["x_min"], box["y_min"], box["x_max"], box["y_max"]), _lines(row))
            for row in group
            for box in (row["bbox"],)
        ]
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(annotate(image, annotations))).save(target, quality=90)
        drawn.append(target)
    return drawn


def _cells(row: Row) -> tuple[str, ...]:
    classes = (_class(row, name) for name in ("gender", "ethnicity", "emotion"))
    return printable(row["image_id"]), str(row["face_index"]), _age(row), *classes


def _lines(row: Row) -> tuple[str, ...]:
    classes = (_class(row, name) for name in ("gender", "ethnicity", "emotion"))
    lines = (f"age {_age(row)}" if _age(row) else "", *classes)
    return tuple(line for line in lines if line)


def _age(row: Row) -> str:
    """An age with its bounds, "?" where the model abstained, nothing where it was not asked."""
    if row["age_low"] is None:
        return ""
    age = "?" if row["age"] is None else f"{row['age']:.0f}"
    return f"{age} ({row['age_low']:.0f}-{row['age_high']:.0f})"


def _class(row: Row, name: str) -> str:
    confidence: Any = row[f"{name}_confidence"]
    return "" if confidence is None else f"{row[name] or '?'} {confidence:.0%}"


def _title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    for line in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
