"""Shows a person what a run wrote: statuses, faces, an example query, and annotated photographs."""

import sys
from itertools import groupby
from pathlib import Path
from typing import Final

import click
import numpy as np
from PIL import Image
from pyspark.sql import DataFrame, Row, SparkSession

from faceattr_udf.cli.text_table import text_table
from faceattr_udf.config import Config, ImagesConfig
from faceattr_udf.errors import ImageError
from faceattr_udf.images.annotate import Annotation, annotate
from faceattr_udf.images.decode import decode_image
from faceattr_udf.images.face_text import age_text, class_text, face_lines
from faceattr_udf.sanitize import printable
from faceattr_udf.spark.locations import Outputs
from faceattr_udf.spark.safe_open import OutsideFolderError, open_inside
from faceattr_udf.spark.tables import Tables

_QUERY: Final = """\
SELECT age_group, gender, count(*) AS faces, round(avg(emotion_probs['happiness']), 2) AS happiness
FROM {faces}
GROUP BY age_group, gender
ORDER BY age_group, gender"""

_MAX_ROWS: Final = 40
"""Faces to print; the table has them all."""


def report(
    spark: SparkSession, config: Config, photographs: Path, tables: str, pictures: Path, max_pictures: int
) -> None:
    """Prints what the tables hold, and draws it onto the photographs.

    Args:
        spark: A session of `config.engine`.
        config: Names the tables.
        photographs: The folder that was enriched; an image_id is a path relative to it.
        tables: The folder of the output tables.
        pictures: The folder of the annotated photographs; created when missing.
        max_pictures: The largest number of photographs to annotate.

    Raises:
        FaceattrError: A table is missing.
    """
    outputs = Outputs.of(config, tables)
    reader = Tables(spark, config.engine.name)
    results, faces = reader.read(outputs.image_results), reader.read(outputs.faces)

    statuses = results.groupBy("status").count().orderBy("status").collect()
    rows = faces.orderBy("image_id", "face_index").limit(_MAX_ROWS).collect()
    total = faces.count()
    _title("Images by status")
    click.echo(text_table(("status", "images"), [(row["status"], str(row["count"])) for row in statuses]))
    _title("Faces, as perceived by the model")
    click.echo(text_table(("image", "face", "age", "gender", "ethnicity", "emotion"), [_cells(row) for row in rows]))
    if total > len(rows):
        click.echo(f"... and {total - len(rows)} more")

    _title("Tables (Delta)")
    for name, ref in outputs.tables.items():
        click.echo(f"{name:14} {ref}")
    query = _QUERY.format(faces=outputs.faces.sql)
    _title("A query to try")
    click.echo(f"{query}\n")
    answer = spark.sql(query)
    cells = [["" if cell is None else str(cell) for cell in row] for row in answer.collect()]
    click.echo(text_table(answer.columns, cells))

    drawn = draw(faces, photographs, pictures, config.images, max_pictures)
    _title("Annotated photographs")
    click.echo(f"{len(drawn)} in {pictures.resolve()}")


def draw(faces: DataFrame, photographs: Path, pictures: Path, limits: ImagesConfig, max_pictures: int) -> list[Path]:
    """Writes copies of photographs with the box and attributes of each face.

    Args:
        faces: The faces table.
        photographs: The folder that image_id is relative to.
        pictures: The folder of the annotated photographs.
        limits: Bounds on the photographs.
        max_pictures: The largest number of photographs to annotate; those with most faces come first.

    Returns:
        Paths of the annotated photographs.
    """
    most_faces = faces.groupBy("image_id").count().orderBy("count", "image_id", ascending=[False, True])
    chosen = most_faces.limit(max_pictures).select("image_id")
    rows = faces.join(chosen, "image_id").orderBy("image_id", "face_index").collect()
    drawn = []
    for image_id, group in groupby(rows, key=lambda row: str(row["image_id"])):
        target = pictures / f"{image_id}.jpg"
        try:
            # An image_id is untrusted: "../x" must be neither read nor written.
            if not target.resolve().is_relative_to(pictures.resolve()):
                msg = "its image_id points outside the folder"
                raise OutsideFolderError(msg)
            with open_inside(photographs, photographs / image_id) as file:
                image = decode_image(file.read(), limits)
        except (OSError, ImageError) as error:
            # The photograph may have left the folder since the run.
            print(printable(f"{image_id} is not annotated: {error}"), file=sys.stderr)
            continue
        annotations = [
            Annotation((box["x_min"], box["y_min"], box["x_max"], box["y_max"]), face_lines(row.asDict()))
            for row in group
            for box in (row["bbox"],)
        ]
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(annotate(image, annotations))).save(target, quality=90)
        drawn.append(target)
    return drawn


def _cells(row: Row) -> tuple[str, ...]:
    face = row.asDict()
    classes = (class_text(face, name) for name in ("gender", "ethnicity", "emotion"))
    return printable(row["image_id"]), str(row["face_index"]), age_text(face), *classes


def _title(text: str) -> None:
    click.echo(f"\n{text}\n{'-' * len(text)}")
