"""Finds the days whose faces or images changed since the marts were built."""

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import MartsConfig
from faceattr_udf.labels import CLASSES
from faceattr_udf.spark.marts.sources import PLACE

VERSION: Final = 1
"""Changes whenever marts get other values from the same faces; then every day is built again."""

_MODULI: Final = (2147483647, 2147483629)
"""Primes below 2^31: four thousand million rows can be summed without overflow."""

_HASHED: Final = (
    "quality_band",
    "age",
    "age_group",
    "minor",
    *(column for name in CLASSES for column in (name, f"{name}_confidence")),
)


@dataclass(frozen=True)
class DayState:
    """What marts_state holds of a day."""

    settings_id: str
    n_rows: int
    fingerprint: str


def settings_id(config: MartsConfig, calibration_id: str | None) -> str:
    """Returns sixteen hexadecimal digits that change when marts of the same faces would."""
    canonical = json.dumps([VERSION, config.model_dump(mode="json"), calibration_id], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def fingerprints(faces: DataFrame, images: DataFrame, settings: str) -> dict[str, DayState]:
    """Returns the state of every day in the sources.

    Args:
        faces: From `sources.placed_faces`.
        images: From `sources.placed_images`.
        settings: From `settings_id`.
    """
    common = ("image_id", *PLACE, "run_id", "processed_at", "model_version", "config_id")
    rows = faces.select("day", _hash(*common, "face_index", *_HASHED).alias("hash")).unionByName(
        images.select("day", _hash(*common, "status", "reason", "n_faces", "crowd", "composition").alias("hash"))
    )
    sums = [F.sum(F.pmod(F.col("hash"), F.lit(modulus))).alias(f"s{k}") for k, modulus in enumerate(_MODULI)]
    found = rows.groupBy("day").agg(F.count(F.lit(1)).alias("n"), *sums).collect()
    return {row["day"]: DayState(settings, int(row["n"]), f"{row['s0']:x}-{row['s1']:x}") for row in found}


def _hash(*names: str) -> Column:
    # As text, with a mark for null: engines hash null differently, and do not tell (1, null) from (null, 1).
    return F.xxhash64(*(F.coalesce(F.col(name).cast("string"), F.lit("\u0000")) for name in names))


def recorded(state: DataFrame) -> dict[str, DayState]:
    """Returns the state of every day in marts_state."""
    return {row["day"]: DayState(row["settings_id"], row["n_rows"], row["fingerprint"]) for row in state.collect()}


def dirty_days(now: dict[str, DayState], before: dict[str, DayState]) -> list[str]:
    """Returns the days that changed, came or went, in order.

    >>> one, other = DayState("s", 1, "a"), DayState("s", 1, "b")
    >>> dirty_days({"2026-01-02": one, "2026-01-03": one}, {"2026-01-01": one, "2026-01-02": one, "2026-01-03": other})
    ['2026-01-01', '2026-01-03']
    """
    return sorted(day for day in now.keys() | before.keys() if now.get(day) != before.get(day))


def periods_of(day: str) -> list[tuple[str, str]]:
    """Returns the periods that contain a day: period and its first day.

    >>> periods_of("2026-03-05")
    [('day', '2026-03-05'), ('week', '2026-03-02'), ('month', '2026-03-01'), ('all', 'all')]
    >>> periods_of("unknown")
    [('day', 'unknown'), ('all', 'all')]
    """
    try:
        first = date.fromisoformat(day)
    except ValueError:
        return [("day", day), ("all", "all")]
    monday = max(first.toordinal() - first.weekday(), 1)
    return [
        ("day", day),
        ("week", (date.fromordinal(monday)).isoformat()),
        ("month", first.replace(day=1).isoformat()),
        ("all", "all"),
    ]
