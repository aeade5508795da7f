"""Corrected shares on the engine: the formulas of `faceattr_udf.shares.correct` and `fit` over any grouping of sums."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.shares.correct import Population, Z
from faceattr_udf.shares.fit import SIGMAS, TOLERANCE

KEYS: Final = ("catalog", "period", "period_start", "slice", "model_version", "attribute")
"""What a share is of."""

_TWO_OVER_PI: Final = 2.0 / math.pi


@dataclass(frozen=True)
class Calibrated:
    """The tables of the calibration."""

    weights: DataFrame
    variances: DataFrame
    cells: DataFrame


def corrected_shares(
    stats: DataFrame,
    products: DataFrame,
    cells: DataFrame,
    *,
    calibrated: Calibrated,
    population: Population,
    stage: Callable[[str, DataFrame], DataFrame] = lambda _, frame: frame,
) -> DataFrame:
    """Corrects shares.

    Args:
        stats: `KEYS`, method, quality_band and the columns of share_stats; rows may repeat.
        products: Likewise with those of share_products; read for an audience only.
        cells: Likewise with those of share_cells.
        calibrated: The calibration.
        population: Whose shares are meant.
        stage: Writes what is used more than once under a name, and returns it; engines evaluate it for every use.

    Returns:
        The columns of the mart `shares`, one row per `KEYS` and label.
    """
    sums = stats.groupBy(*KEYS, "method", "quality_band", "score_label").agg(
        F.sum("n_faces").alias("n_faces"), F.sum("sum_p").alias("sum_p"), F.sum("score").alias("score")
    )
    stats = stage("stats", sums)
    raw = _raw(stats)
    groups = stage("groups", _groups(stats, calibrated.weights))
    known = groups.groupBy(*KEYS, "label").agg(
        (F.sum("x") / F.sum("n_group")).alias("unprojected"),
        F.max("calibration_id").alias("calibration_id"),
        F.min("method").alias("method"),  # acc before pacc
    )
    projected = stage("projected", _projected(known))
    shares = projected.join(_variances(groups, products, calibrated, population), [*KEYS, "label"])
    fit = _fit(projected, cells, calibrated.cells)
    found = raw.join(shares, [*KEYS, "label"], "left").join(fit, list(KEYS), "left")
    corrected = F.col("unprojected").isNotNull()
    margin = Z * F.sqrt(F.col("var_sample") + F.col("var_model"))
    wide = F.sqrt(margin * margin + F.pow(F.col("t_transfer") * F.col("se_transfer"), 2))
    return found.select(
        *KEYS,
        "label",
        "raw_share",
        "soft_share",
        F.coalesce("share", "raw_share").alias("share"),
        _least(F.col("unprojected") - margin).alias("low"),
        _greatest(F.col("unprojected") + margin).alias("high"),
        _least(F.col("unprojected") - wide).alias("low_transfer"),
        _greatest(F.col("unprojected") + wide).alias("high_transfer"),
        F.sqrt("var_sample").alias("se_sample"),
        F.sqrt("var_model").alias("se_model"),
        "n_faces",
        F.lit(population).alias("population"),
        F.when(corrected, F.col("method")).otherwise(F.lit("none")).alias("method"),
        F.when(corrected, F.col("fit_tv")).alias("fit_tv"),
        F.when(~corrected | F.col("fit_tv").isNull(), F.lit("unknown"))
        .when(F.col("fit_tv") > F.col("fit_limit"), F.lit("poor"))
        .otherwise(F.lit("good"))
        .alias("fit"),
        F.when(corrected, F.col("calibration_id")).alias("calibration_id"),
    )


def _least(bound: Column) -> Column:
    """Returns the lower bound within 0 and the share, which the projection may have moved below it; null stays null."""
    return F.when(bound.isNotNull(), F.greatest(F.least(bound, "share"), F.lit(0.0)))


def _greatest(bound: Column) -> Column:
    return F.when(bound.isNotNull(), F.least(F.greatest(bound, "share"), F.lit(1.0)))


def _raw(stats: DataFrame) -> DataFrame:
    whole = Window.partitionBy(*KEYS)
    sums = stats.groupBy(*KEYS, F.col("score_label").alias("label")).agg(
        F.sum("n_faces").cast("double").alias("n"), F.sum("sum_p").alias("p")
    )
    totals = sums.withColumn("n_faces", F.sum("n").over(whole)).withColumn("p_faces", F.sum("p").over(whole))
    return totals.where("n_faces > 0").select(
        *KEYS,
        "label",
        (F.col("n") / F.col("n_faces")).alias("raw_share"),
        F.when(F.col("p_faces") > 0, F.col("p") / F.col("p_faces")).alias("soft_share"),
        "n_faces",
    )


def _groups(stats: DataFrame, weights: DataFrame) -> DataFrame:
    """Returns the weighted sums of faces that share statistics; nothing of keys with faces that have no weights."""
    on = ["model_version", "attribute", "method", "quality_band", "score_label"]
    sums = stats.groupBy(*KEYS, "method", "quality_band", "score_label").agg(F.sum("score").alias("score"))
    weighted = sums.where("score > 0").join(weights, on, "left")
    lacking = weighted.where("weight IS NULL").select(*KEYS).distinct()
    return (
        weighted.where("weight IS NOT NULL")
        .join(lacking, list(KEYS), "left_anti")
        .groupBy(*KEYS, "method", "statistics", "label")
        .agg(
            F.sum(F.col("weight") * F.col("score")).alias("x"),
            F.sum("score").alias("n_group"),
            F.max("calibration_id").alias("calibration_id"),
        )
        .withColumn("share_group", F.col("x") / F.col("n_group"))
        .withColumn("part", F.col("n_group") / F.sum("n_group").over(Window.partitionBy(*KEYS, "label")))
    )


def _projected(known: DataFrame) -> DataFrame:
    """Adds the projection onto the simplex: the threshold is the largest of (sum of the j largest - 1) / j."""
    ordered = Window.partitionBy(*KEYS).orderBy(F.col("unprojected").desc(), "label")
    running = ordered.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    excess = (F.sum("unprojected").over(running) - 1.0) / F.row_number().over(ordered)
    threshold = F.max("excess").over(Window.partitionBy(*KEYS))
    return (
        known.withColumn("excess", excess)
        .withColumn("share", F.greatest(F.col("unprojected") - threshold, F.lit(0.0)))
        .drop("excess")
    )


def _variances(groups: DataFrame, products: DataFrame, calibrated: Calibrated, population: Population) -> DataFrame:
    on = ["model_version", "attribute", "method", "statistics", "true_label"]
    true = groups.select(
        *KEYS, "method", "statistics", F.col("label").alias("true_label"), "share_group", "n_group", "part"
    )
    squared = F.col("share_group") * F.col("share_group")
    terms = (
        true.join(calibrated.variances, on)
        .groupBy(*KEYS, "method", "statistics", "label")
        .agg(
            F.sum(squared * F.col("var_model")).alias("model"),
            F.sum(F.greatest("share_group", F.lit(0.0)) * F.col("var_scores") / F.col("n_group")).alias("scores"),
            F.sum(squared * F.col("var_transfer")).alias("transfer"),
            F.max("t_transfer").alias("t_transfer"),
            F.max("part").alias("part"),
        )
    )
    if population == "audience":
        scatter = _scatter(groups, products, calibrated.weights)
        terms = terms.drop("scores").join(scatter, [*KEYS, "method", "statistics", "label"])
    part = F.col("part") * F.col("part")
    return terms.groupBy(*KEYS, "label").agg(
        F.sum(part * F.col("model")).alias("var_model"),
        F.sum(part * F.col("scores")).alias("var_sample"),
        F.when(F.count("transfer") == F.count(F.lit(1)), F.sum(F.col("part") * F.sqrt("transfer"))).alias(
            "se_transfer"
        ),
        F.max("t_transfer").alias("t_transfer"),
    )


def _scatter(groups: DataFrame, products: DataFrame, weights: DataFrame) -> DataFrame:
    """Returns W C W^T of every group, with C the scatter of scores between photographs."""
    on = ["model_version", "attribute", "method", "quality_band"]
    first = weights.select(*on, "statistics", "score_label", "label", F.col("weight").alias("w1"))
    second = weights.select(*on, F.col("score_label").alias("score_label2"), "label", F.col("weight").alias("w2"))
    sums = products.groupBy(*KEYS, "method", "quality_band", "score_label", "score_label2").agg(
        F.sum("sum_pp").alias("pp")
    )
    same = F.col("score_label") == F.col("score_label2")
    pairs = sums.join(first, [*on, "score_label"]).join(second, [*on, "score_label2", "label"])
    moments = pairs.groupBy(*KEYS, "method", "statistics", "label").agg(
        F.sum(F.when(same, 1.0).otherwise(2.0) * F.col("w1") * F.col("w2") * F.col("pp")).alias("weighted"),
        F.sum(F.when(same, F.col("w1")).otherwise(F.col("w1") + F.col("w2")) * F.col("pp")).alias("by_size"),
        F.sum(F.when(same, 1.0).otherwise(2.0) * F.col("pp")).alias("sizes"),
    )
    share, n = F.col("share_group"), F.col("n_group")
    scatter = (F.col("weighted") - 2 * share * F.col("by_size") + F.col("sizes") * share * share) / (n * n)
    return groups.join(moments, [*KEYS, "method", "statistics", "label"]).select(
        *KEYS, "method", "statistics", "label", F.greatest(scatter, F.lit(0.0)).alias("scores")
    )


def _fit(shares: DataFrame, cells: DataFrame, expected: DataFrame) -> DataFrame:
    observed = cells.groupBy(*KEYS, "cell_label", "part").agg(F.sum("n_faces").alias("n"))
    totals = observed.groupBy(*KEYS).agg(F.sum("n").alias("n_cells"))
    rate, share = F.col("rate"), F.col("share")
    within = rate * (1.0 - rate)
    explained = (
        shares.select(*KEYS, F.col("label").alias("true_label"), "share")
        .join(expected, ["model_version", "attribute", "true_label"])
        .join(totals, list(KEYS))
        .groupBy(*KEYS, "cell_label", "part")
        .agg(
            F.sum(share * rate).alias("expected"),
            F.sum(share * within / F.col("n_cells") + share * share * within / F.col("n_calibration")).alias(
                "variance"
            ),
            F.max("n_cells").alias("n_cells"),
        )
    )
    difference = F.abs(F.coalesce(F.col("n"), F.lit(0)) / F.col("n_cells") - F.col("expected"))
    summed = (
        explained.join(observed, [*KEYS, "cell_label", "part"], "left")
        .groupBy(*KEYS)
        .agg(
            (0.5 * F.sum(difference)).alias("fit_tv"),
            (0.5 * _TWO_OVER_PI**0.5 * F.sum(F.sqrt("variance"))).alias("mean"),
            (0.5 * (1.0 - _TWO_OVER_PI) ** 0.5 * F.sqrt(F.sum("variance"))).alias("sd"),
        )
    )
    limit = TOLERANCE + F.col("mean") + SIGMAS * F.col("sd")
    return summed.select(*KEYS, "fit_tv", limit.alias("fit_limit"))
