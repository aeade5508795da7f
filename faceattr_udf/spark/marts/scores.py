"""Sums of scores: how faces of a day count for every label, before any correction."""

from collections.abc import Mapping
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.shares.calibration_file import LABELS
from faceattr_udf.shares.statistics import AttributeStatistics, Method

_MOST: Final = max(len(labels) for labels in LABELS.values())
_PLACES: Final = range(_MOST)
KEYS: Final = ("catalog", "day", "slice", "quality_band", "model_version", "config_id")
_GROUP: Final = (*KEYS, "attribute", "method")
PARTS: Final = ("low", "middle", "high")
_SUM_TOLERANCE: Final = 0.01


def scored(faces: DataFrame, method: Method) -> DataFrame:
    """Returns one row per face and attribute.

    Columns: `KEYS`, image_id, attribute, method, place (index of the label for which the model decides, also where it
    abstains), p_0, p_1, ... (probabilities that sum to 1; null where they are missing or no distribution), likely
    (index of the most probable label, likewise) and confidence (its probability).

    Faces without this attribute have no row: abstaining must not select faces, but what was not predicted has no share.
    """
    rows = faces.select(*KEYS, "image_id", F.explode(F.array(*(_values(attribute) for attribute in LABELS))).alias("s"))
    # Every step has names for what the next one uses, often more than once: engines expand nested expressions.
    values = rows.select(
        *KEYS,
        "image_id",
        F.col("s.attribute").alias("attribute"),
        F.col("s.decided").alias("decided"),
        *(F.col("s.x")[k].alias(f"x_{k}") for k in _PLACES),
    )
    x = [F.col(f"x_{k}") for k in _PLACES]
    summed = values.withColumn("total", reduce(lambda a, b: a + b, x)).withColumn("best", F.greatest(*x))
    total = F.col("total")
    # A comparison with null is null: neither it nor NaN is a distribution.
    valid = (total > 1 - _SUM_TOLERANCE) & (total < 1 + _SUM_TOLERANCE) & (F.least(*x) >= 0) & ~F.isnan(total)
    checked = summed.withColumn("valid", F.coalesce(valid, F.lit(False)))
    likely = _first([value == F.col("best") for value in x])
    ranked = checked.withColumn("likely", F.when(F.col("valid"), likely))
    used = F.when(F.col("valid"), F.lit("pacc")).otherwise(F.lit("acc")) if method == "pacc" else F.lit("acc")
    return ranked.select(
        *KEYS,
        "image_id",
        "attribute",
        used.alias("method"),
        F.coalesce("decided", "likely").alias("place"),
        *(F.when(F.col("valid"), value / total).alias(f"p_{k}") for k, value in enumerate(x)),
        "likely",
        F.when(F.col("valid"), F.col("best") / total).alias("confidence"),
    ).where("place IS NOT NULL")


def _values(attribute: str) -> Column:
    labels, map_ = LABELS[attribute], F.col(f"{attribute}_probs")
    found = [map_.getItem(label).cast("double") for label in labels]
    nothing = [F.lit(0.0)] * (_MOST - len(labels))
    return F.struct(
        F.lit(attribute).alias("attribute"),
        _first([F.col(attribute) == label for label in labels]).alias("decided"),
        F.array(*found, *nothing).alias("x"),
    )


def _first(conditions: list[Column]) -> Column:
    """Returns the index of the first condition that holds; null if none does."""
    found = F.when(conditions[0], F.lit(0))
    for place, condition in enumerate(conditions[1:], 1):
        found = found.when(condition, F.lit(place))
    return found


def label_at(place: int) -> Column:
    """Returns the label of the row's attribute at an index; null where the attribute has fewer."""
    found = F.when(F.lit(False), F.lit(""))
    for attribute, labels in LABELS.items():
        if place < len(labels):
            found = found.when(F.col("attribute") == attribute, F.lit(labels[place]))
    return found


def share_stats(rows: DataFrame) -> DataFrame:
    """Returns the first moments of `scored` rows."""
    hits = [F.sum(F.when(F.col("place") == k, 1).otherwise(0)).alias(f"n_{k}") for k in _PLACES]
    sums = rows.groupBy(*_GROUP).agg(*hits, *(F.sum(f"p_{k}").alias(f"p_{k}") for k in _PLACES))
    unpivoted = F.explode(
        F.array(
            *(
                F.struct(
                    label_at(k).alias("score_label"),
                    F.col(f"n_{k}").cast("long").alias("n_faces"),
                    F.col(f"p_{k}").alias("sum_p"),
                )
                for k in _PLACES
            )
        )
    )
    names = ("score_label", "n_faces", "sum_p")
    return (
        sums.select(*_GROUP, unpivoted.alias("s"))
        .select(*_GROUP, *(F.col(f"s.{name}").alias(name) for name in names))
        .where("score_label IS NOT NULL")
        .withColumn(
            "score", F.when(F.col("method") == "acc", F.col("n_faces").cast("double")).otherwise(F.col("sum_p"))
        )
    )


def share_products(rows: DataFrame) -> DataFrame:
    """Returns the second moments: sums over photographs of products of the scores in them.

    A photograph whose faces lie in several quality bands counts as one photograph in each.
    """
    hit = [F.when(F.col("place") == k, 1.0).otherwise(0.0) for k in _PLACES]
    score = [F.when(F.col("method") == "acc", hit[k]).otherwise(F.coalesce(f"p_{k}", F.lit(0.0))) for k in _PLACES]
    by_photograph = rows.groupBy(*_GROUP, "image_id").agg(*(F.sum(score[k]).alias(f"s_{k}") for k in _PLACES))
    pairs = [(j, k) for j in _PLACES for k in range(j, _MOST)]
    products = by_photograph.groupBy(*_GROUP).agg(
        *(F.sum(F.col(f"s_{j}") * F.col(f"s_{k}")).alias(f"pp_{j}_{k}") for j, k in pairs)
    )
    unpivoted = F.explode(
        F.array(
            *(
                F.struct(
                    label_at(j).alias("score_label"),
                    label_at(k).alias("score_label2"),
                    F.col(f"pp_{j}_{k}").alias("sum_pp"),
                )
                for j, k in pairs
            )
        )
    )
    names = ("score_label", "score_label2", "sum_pp")
    return (
        products.select(*_GROUP, unpivoted.alias("s"))
        .select(*_GROUP, *(F.col(f"s.{name}").alias(name) for name in names))
        # k is the larger index, so the first label is there if the second is.
        .where("score_label2 IS NOT NULL")
    )


def share_cells(rows: DataFrame, statistics: Mapping[str, AttributeStatistics]) -> DataFrame:
    """Returns the numbers of faces in every cell of most likely label and confidence; none without a calibration."""
    edges = [
        (attribute, place, label, float(low), float(high))
        for attribute, one in statistics.items()
        for place, (label, (low, high)) in enumerate(zip(one.labels, one.edges, strict=True))
    ]
    known = rows.sparkSession.createDataFrame(
        edges, "attribute string, likely int, cell_label string, low double, high double"
    )
    confidence = F.col("confidence")
    part = F.when(confidence >= F.col("high"), PARTS[2]).when(confidence >= F.col("low"), PARTS[1]).otherwise(PARTS[0])
    return (
        rows.join(F.broadcast(known), ["attribute", "likely"])
        .select(*KEYS, "attribute", "cell_label", part.alias("part"))
        .groupBy(*KEYS, "attribute", "cell_label", "part")
        .agg(F.count(F.lit(1)).alias("n_faces"))
    )
