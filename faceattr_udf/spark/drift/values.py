"""The values of runs, computed from the rows that the runs wrote to faces and image_results."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.drift.nights import Key, Night
from faceattr_udf.drift.rule import Value
from faceattr_udf.labels import AGE_GROUPS, CLASSES

_COMPLETE: Final = 0.9
"""The part of a run's faces that must still be there: later runs replace rows, and not by chance."""


def nights(runs: Sequence[Row], faces: DataFrame, results: DataFrame) -> list[Night]:
    """Returns the nights of runs; not of those whose rows later runs have replaced.

    Args:
        runs: Rows of the runs table with run_id, started_at, model_version, config_id, n_faces.
        faces: The faces table.
        results: The image_results table.
    """
    if not runs:
        return []
    run_ids = [row["run_id"] for row in runs]
    faces = faces.where(F.col("run_id").isin(run_ids))
    statuses = _statuses(results.where(F.col("run_id").isin(run_ids)))
    columns = _face_columns(_labels(faces))
    means = _means(faces, columns)
    found = []
    for run in runs:
        images, n_photographs = statuses.get(run["run_id"], ({}, 0))
        of_faces = means.get(run["run_id"], {})
        n_faces = max((value.n for value in of_faces.values()), default=0)
        if n_faces < _COMPLETE * run["n_faces"]:
            continue
        values = dict(images)
        for key, mean in of_faces.items():
            values[key] = _value(key, mean, n_photographs)
        found.append(
            Night(
                run_id=run["run_id"],
                started_at=run["started_at"],
                model_version=run["model_version"],
                config_id=run["config_id"],
                n_faces=n_faces,
                n_images=max((value.n for value in images.values()), default=0),
                values=values,
            )
        )
    return found


def _value(key: Key, mean: Value, n_photographs: int) -> Value:
    """Returns a value with its sampling error.

    Faces of one photograph are not independent, so the photographs are counted, which is at most too cautious. Of
    face_px the mean is that of logarithms.
    """
    sd = mean.sampling_sd / math.sqrt(max(1, min(n_photographs, mean.n)))
    if key.metric == "face_px":
        size = math.exp(mean.value)
        return Value(size, mean.n, size * sd)
    return Value(mean.value, mean.n, sd)


def _labels(faces: DataFrame) -> dict[str, list[str]]:
    """Returns the labels of the model, from any face: weights of one's own may have others than the shipped ones."""
    known = {name: F.array_sort(F.map_keys(f"{name}_probs")).alias(name) for name in CLASSES}
    row = faces.where(" OR ".join(f"{name}_probs IS NOT NULL" for name in CLASSES)).select(*known.values()).first()
    return {name: list(row[name]) for name in CLASSES if row is not None and row[name]}


def _face_columns(labels: Mapping[str, Sequence[str]]) -> dict[Key, Column]:
    """Returns the columns whose means over faces are values; nulls do not count.

    The share of a label is the mean of its probability: unlike the count of its faces it does not depend on the
    abstentions. Shares that are corrected for the model's confusions would take its place.
    """
    columns = {
        # First, because every face has it.
        Key("brightness"): F.col("quality.brightness"),
        Key("blur"): F.col("quality.blur"),
        Key("face_px"): F.log(F.greatest(F.col("quality.face_px"), F.lit(1.0))),
        Key("age"): F.col("age"),
    }
    for group in AGE_GROUPS:
        columns[Key("share", f"age_group/{group}")] = F.when(
            F.col("age_group").isNotNull(), (F.col("age_group") == group).cast("double")
        )
    for name, of_name in labels.items():
        confidence = F.col(f"{name}_confidence")
        columns[Key("abstention", name)] = F.when(confidence.isNotNull(), F.col(name).isNull().cast("double"))
        for label in of_name:
            probability = F.col(f"{name}_probs")[label]
            columns[Key("share", f"{name}/{label}")] = probability
            columns[Key("confidence_of_label", f"{name}/{label}")] = F.when(probability >= confidence, confidence)
    return {key: column.cast("double") for key, column in columns.items()}


def _means(faces: DataFrame, columns: Mapping[Key, Column]) -> dict[str, dict[Key, Value]]:
    """Returns run_id -> key -> mean, number, and standard deviation of the faces."""
    keys = list(columns)
    named = faces.select("run_id", *(columns[key].alias(f"v{number}") for number, key in enumerate(keys)))
    sums: list[Column] = []
    for number in range(len(keys)):
        own = F.col(f"v{number}")
        sums += [
            F.avg(own).alias(f"mean{number}"),
            F.avg(own * own).alias(f"square{number}"),
            F.count(own).alias(f"n{number}"),
        ]
    found: dict[str, dict[Key, Value]] = {}
    for row in named.groupBy("run_id").agg(*sums).collect():
        found[row["run_id"]] = {
            key: Value(mean, row[f"n{number}"], math.sqrt(max(0.0, row[f"square{number}"] - mean * mean)))
            for number, key in enumerate(keys)
            for mean in (row[f"mean{number}"],)
            if mean is not None
        }
    return found


def _statuses(results: DataFrame) -> dict[str, tuple[dict[Key, Value], int]]:
    """Returns run_id -> values of images, and the number of images with faces."""
    n_faces = F.col("n_faces").cast("double")
    rows = (
        results.groupBy("run_id", "status")
        .agg(
            F.count(F.lit(1)).alias("n"),
            F.count(F.when(n_faces > 0, F.lit(1))).alias("with_faces"),
            F.sum(n_faces).alias("faces"),
            F.sum(n_faces * n_faces).alias("squares"),
        )
        .collect()
    )
    by_run: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_run[row["run_id"]].append(row)
    found = {}
    for run_id, of_run in by_run.items():
        n_images = sum(row["n"] for row in of_run)
        values = {}
        for row in of_run:
            share = row["n"] / n_images
            values[Key("status", row["status"])] = Value(share, n_images, math.sqrt(share * (1 - share) / n_images))
        with_faces = sum(row["with_faces"] for row in of_run)
        if with_faces:
            mean = sum(row["faces"] for row in of_run) / with_faces
            spread = max(0.0, sum(row["squares"] for row in of_run) / with_faces - mean * mean)
            values[Key("faces_per_photograph")] = Value(mean, with_faces, math.sqrt(spread / with_faces))
        found[run_id] = (values, with_faces)
    return found
