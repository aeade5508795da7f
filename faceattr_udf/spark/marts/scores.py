"""Sums of scores: how faces of a day count for every label, before any correction."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import DoubleType, IntegerType, StringType, StructField, StructType

from faceattr_udf.shares.calibration_file import LABELS
from faceattr_udf.shares.statistics import AttributeStatistics, Method

KEYS: Final = ("catalog", "day", "slice", "quality_band", "model_version", "config_id")
PARTS: Final = ("low", "middle", "high")
_SUM_TOLERANCE: Final = 0.01
_KEPT: Final = (*KEYS, "image_id")


def scored(faces: DataFrame) -> DataFrame:
    """Returns one row per face, with plain numbers for every attribute.

    Columns: `KEYS`, image_id, and for every attribute place_A (index of the label for which the model decides, also
    where it abstains; null where the attribute was not predicted), likely_A (index of the most probable label),
    confidence_A (its probability) and p_A_0, p_A_1, ... (probabilities that sum to 1); all but the first are null where
    probabilities are missing or no distribution.
    """
    needed = [name for attribute in LABELS for name in (attribute, f"{attribute}_probs")]
    # In Python, because the embedded engine takes minutes for as many expressions over maps.
    return faces.select(*_KEPT, *needed).mapInArrow(_score_batches, _scored_schema())


def _scored_schema() -> StructType:
    fields = [StructField(name, StringType()) for name in _KEPT]
    for attribute, labels in LABELS.items():
        fields += [StructField(f"{name}_{attribute}", IntegerType()) for name in ("place", "likely")]
        fields.append(StructField(f"confidence_{attribute}", DoubleType()))
        fields += [StructField(f"p_{attribute}_{k}", DoubleType()) for k in range(len(labels))]
    return StructType(fields)


def _score_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        columns = {name: batch.column(name).cast(pa.string()) for name in _KEPT}
        for attribute, labels in LABELS.items():
            columns |= _score(attribute, labels, batch.column(attribute), batch.column(f"{attribute}_probs"))
        yield pa.RecordBatch.from_pydict(columns)


def _score(attribute: str, labels: Sequence[str], decided: Any, probs: Any) -> dict[str, Any]:  # noqa: ANN401
    values = np.stack([_numbers(pc.map_lookup(probs, pa.scalar(label), "first")) for label in labels], axis=1)
    with np.errstate(invalid="ignore"):
        total = values.sum(axis=1)
        # Comparisons with NaN are false: neither a missing nor an odd value is part of a distribution.
        valid = (np.abs(total - 1.0) < _SUM_TOLERANCE) & (values >= 0.0).all(axis=1)
    values[valid] /= total[valid, None]
    values[~valid] = 0.0
    likely = values.argmax(axis=1).astype(np.int32)
    index = pc.index_in(decided.cast(pa.string()), value_set=pa.array(labels, pa.string()))
    place = pc.coalesce(index, pa.array(likely, mask=~valid))
    return {
        f"place_{attribute}": place.cast(pa.int32()),
        f"likely_{attribute}": pa.array(likely, mask=~valid),
        f"confidence_{attribute}": pa.array(values.max(axis=1), mask=~valid),
        **{f"p_{attribute}_{k}": pa.array(values[:, k], mask=~valid) for k in range(len(labels))},
    }


def _numbers(array: Any) -> npt.NDArray[np.float64]:  # noqa: ANN401 - Arrow's stubs do not know map_lookup
    return np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def share_stats(rows: DataFrame, method: Method) -> DataFrame:
    """Returns the first moments of `scored` rows."""
    sums = []
    for attribute, labels in LABELS.items():
        for used in _methods(method):
            for k in range(len(labels)):
                hit = _counts(attribute, used, method) & (F.col(f"place_{attribute}") == k)
                sums.append(F.sum(F.when(hit, 1).otherwise(0)).alias(f"n_{used}_{attribute}_{k}"))
                probability = F.when(_counts(attribute, used, method), F.col(f"p_{attribute}_{k}"))
                sums.append(F.sum(probability).alias(f"p_{used}_{attribute}_{k}"))
    structs = []
    for attribute, labels in LABELS.items():
        for used in _methods(method):
            faces = _total([F.col(f"n_{used}_{attribute}_{k}") for k in range(len(labels))])
            for k, label in enumerate(labels):
                number, probability = F.col(f"n_{used}_{attribute}_{k}"), F.col(f"p_{used}_{attribute}_{k}")
                structs.append(
                    F.struct(
                        F.lit(attribute).alias("attribute"),
                        F.lit(used).alias("method"),
                        F.lit(label).alias("score_label"),
                        number.cast("long").alias("n_faces"),
                        probability.alias("sum_p"),
                        (number.cast("double") if used == "acc" else probability).alias("score"),
                        faces.alias("faces"),
                    )
                )
    names = ("attribute", "method", "score_label", "n_faces", "sum_p", "score", "faces")
    return _unpivoted(rows.groupBy(*KEYS).agg(*sums), structs, names).where("faces > 0").drop("faces")


def share_products(rows: DataFrame, method: Method) -> DataFrame:
    """Returns the second moments: sums over photographs of products of the scores in them.

    A photograph whose faces lie in several quality bands counts as one photograph in each.
    """
    sums, products, structs = [], [], []
    for attribute, labels in LABELS.items():
        for used in _methods(method):
            name = f"{used}_{attribute}"
            for k in range(len(labels)):
                if used == "acc":
                    hit = _counts(attribute, used, method) & (F.col(f"place_{attribute}") == k)
                    score = F.when(hit, 1.0).otherwise(0.0)
                else:
                    score = F.coalesce(f"p_{attribute}_{k}", F.lit(0.0))
                sums.append(F.sum(score).alias(f"s_{name}_{k}"))
            pairs = [(j, k) for j in range(len(labels)) for k in range(j, len(labels))]
            products += [
                F.sum(F.col(f"s_{name}_{j}") * F.col(f"s_{name}_{k}")).alias(f"pp_{name}_{j}_{k}") for j, k in pairs
            ]
            squares = _total([F.col(f"pp_{name}_{k}_{k}") for k in range(len(labels))])
            structs += [
                F.struct(
                    F.lit(attribute).alias("attribute"),
                    F.lit(used).alias("method"),
                    F.lit(labels[j]).alias("score_label"),
                    F.lit(labels[k]).alias("score_label2"),
                    F.col(f"pp_{name}_{j}_{k}").alias("sum_pp"),
                    squares.alias("squares"),
                )
                for j, k in pairs
            ]
    by_photograph = rows.groupBy(*_KEPT).agg(*sums)
    names = ("attribute", "method", "score_label", "score_label2", "sum_pp", "squares")
    return _unpivoted(by_photograph.groupBy(*KEYS).agg(*products), structs, names).where("squares > 0").drop("squares")


def share_cells(rows: DataFrame, statistics: Mapping[str, AttributeStatistics]) -> DataFrame:
    """Returns the numbers of faces in every cell of most likely label and confidence; none without a calibration."""
    sums, structs = [], []
    for attribute, one in statistics.items():
        likely, confidence = F.col(f"likely_{attribute}"), F.col(f"confidence_{attribute}")
        for k, (label, (low, high)) in enumerate(zip(one.labels, one.edges.tolist(), strict=True)):
            parts = (confidence < low, (confidence >= low) & (confidence < high), confidence >= high)
            for part, condition in zip(PARTS, parts, strict=True):
                name = f"n_{attribute}_{k}_{part}"
                sums.append(F.sum(F.when((likely == k) & condition, 1).otherwise(0)).alias(name))
                structs.append(
                    F.struct(
                        F.lit(attribute).alias("attribute"),
                        F.lit(label).alias("cell_label"),
                        F.lit(part).alias("part"),
                        F.col(name).cast("long").alias("n_faces"),
                    )
                )
    names = ("attribute", "cell_label", "part", "n_faces")
    if not structs:
        schema = ", ".join(f"{name} string" for name in (*KEYS, *names[:3]))
        return rows.sparkSession.createDataFrame([], f"{schema}, n_faces long")
    return _unpivoted(rows.groupBy(*KEYS).agg(*sums), structs, names).where("n_faces > 0")


def _methods(method: Method) -> tuple[Method, ...]:
    """Returns the methods by which faces may count: those without probabilities always count by their label."""
    return ("acc",) if method == "acc" else ("acc", "pacc")


def _counts(attribute: str, used: Method, method: Method) -> Column:
    """Returns whether a face counts by a method."""
    if method == "acc":
        return F.lit(True)
    probabilities = F.col(f"likely_{attribute}").isNotNull()
    return probabilities if used == "pacc" else ~probabilities


def _total(columns: Sequence[Column]) -> Column:
    total = columns[0]
    for column in columns[1:]:
        total = total + column
    return total


def _unpivoted(wide: DataFrame, structs: Sequence[Column], names: Sequence[str]) -> DataFrame:
    rows = wide.select(*KEYS, F.explode(F.array(*structs)).alias("s"))
    return rows.select(*KEYS, *(F.col(f"s.{name}").alias(name) for name in names))
