"""Benchmark of the marts: the first build, the night after, and a corrected share by SQL."""

import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql.types import StringType, StructField, StructType, TimestampType

from faceattr_udf.attributes.predictor import model_record
from faceattr_udf.benchmarks.engine_meter import measured
from faceattr_udf.config import Config, OutputConfig
from faceattr_udf.shares.calibration_file import LABELS, load_calibration
from faceattr_udf.shares.statistics import AGE_GROUP
from faceattr_udf.spark.marts.build import build_marts
from faceattr_udf.spark.marts.queries import queries, register_views
from faceattr_udf.spark.schemas import IMAGE_RESULTS, arrow_type, faces_table
from faceattr_udf.spark.session import start

_CATALOGS: Final = ("shoes", *(f"catalog {number}" for number in range(1, 10)))
_DAYS: Final = 100
_FIRST_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)
_CHUNK: Final = 100_000
_MOST_FACES: Final = 4
_ABSTAINS_BELOW: Final = 0.55
_TIME: Final = pa.timestamp("us", tz="UTC")
_FACES: Final = faces_table(
    OutputConfig(), [StructField("catalog", StringType()), StructField("captured_at", TimestampType())]
)


def marts(configs: Mapping[str, Config], events: Path, faces: int) -> dict[str, Any]:
    """Measures marts over faces of ten catalogs and 100 days.

    The night after brings 1 % more faces, all of the last day. The last measurement is the ready query
    `corrected_share`.

    Args:
        configs: Engine -> configuration that selects it.
        events: The folder of Spark's event log.
        faces: Rows of faces, about.
    """
    results: dict[str, Any] = {"images": faces}
    with tempfile.TemporaryDirectory() as name:
        first, more = Path(name) / "first", Path(name) / "more"
        for engine_name, config in configs.items():
            model = f"benchmark+{model_record(config.attributes).model_version}"
            if not first.exists():
                _write(first, faces, model, np.arange(_DAYS))
                _write(more, max(1, faces // 100), model, np.array([_DAYS - 1]))
            folder = Path(name) / engine_name
            results[engine_name] = _measure(config, first, more, folder, events if engine_name == "spark" else None)
    return results


def _measure(config: Config, first: Path, more: Path, output: Path, events: Path | None) -> dict[str, Any]:
    spark = start(config)
    calibration = load_calibration(model_record(config.attributes), config.attributes.weights)
    builds = {}
    for name, rows in (("first build", first), ("1 % new", more), ("nothing new", None)):
        if rows is not None:
            _append(spark, rows, output)
        with measured(events) as cost:
            report = build_marts(spark, config, str(output), calibration)
        builds[name] = {"days": len(report.days), **cost.summary()}
    register_views(spark, str(output), config)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        spark.sql(queries()["corrected_share"]).collect()
        seconds.append(time.perf_counter() - started)
    return {**builds, "seconds_of_a_corrected_share": round(sorted(seconds)[1], 2)}


def _append(spark: SparkSession, rows: Path, output: Path) -> None:
    for name in ("faces", "image_results"):
        frame = spark.read.parquet(str(rows / name))
        frame.write.format("delta").mode("append").save(str(output / name))


def _write(folder: Path, faces: int, model: str, days: npt.NDArray[np.int64]) -> None:
    """Writes rows of faces and image_results as Parquet files; images have one to four faces."""
    night: dict[str, Any] = {"config_id": "c", "model_version": model, "run_id": folder.name}
    night["processed_at"] = datetime.now(UTC)
    rng = np.random.default_rng(len(days))
    for number, first in enumerate(range(0, faces, _CHUNK)):
        n = min(_CHUNK, faces - first)
        image = np.repeat(np.arange(n), rng.integers(1, _MOST_FACES + 1, n))[:n]
        n_images = int(image[-1]) + 1
        ids = pa.array([f"{folder.name}-{number}-{one:06d}" for one in range(n_images)])
        times = pa.array([_FIRST_DAY + timedelta(days=int(one)) for one in rng.choice(days, n_images)], _TIME)
        of_faces = _attributes(rng, n) | {
            "image_id": ids.take(image),
            "face_index": pa.array(np.arange(n) - np.searchsorted(image, image)),
            "catalog": pa.array(np.array(_CATALOGS)[rng.integers(len(_CATALOGS), size=n_images)[image]]),
            "captured_at": times.take(image),
            "quality": _quality(rng, n),
        }
        of_images = {
            "image_id": ids,
            "n_faces": pa.array(np.bincount(image, minlength=n_images)),
            "status": pa.array(["ok"] * n_images),
        }
        for name, schema, values in (("faces", _FACES, of_faces), ("image_results", IMAGE_RESULTS, of_images)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            pq.write_table(_table(schema, values, night), folder / name / f"part-{number:05d}.parquet")


def _table(schema: StructType, values: Mapping[str, Any], same: Mapping[str, Any]) -> pa.Table:
    """Returns rows; columns without values have the same value in each row, or are null."""
    n = len(values["image_id"])
    columns = {}
    for field in schema:
        type_ = arrow_type(field.dataType)
        given = values.get(field.name)
        columns[field.name] = pa.array([same.get(field.name)] * n, type_) if given is None else given.cast(type_)
    return pa.table(columns)


def _attributes(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """Returns random attributes: probabilities, the most likely label, and null where its probability is low."""
    values: dict[str, Any] = {}
    for attribute, labels in LABELS.items():
        probs = rng.dirichlet(np.full(len(labels), 0.3), n).astype(np.float32)
        best, top = probs.argmax(axis=1), probs.max(axis=1)
        names = np.array(labels)
        offsets: Any = pa.array(np.arange(n + 1) * len(labels), pa.int32())
        keys: Any = pa.array(np.tile(names, n))
        values[f"{attribute}_probs"] = pa.MapArray.from_arrays(offsets, keys, pa.array(probs.reshape(-1)))
        if attribute == AGE_GROUP:
            values["age_group"] = pa.array(names[best])
            values["age"] = pa.array((10 * best + 5).astype(np.float32))
        else:
            values[attribute] = pa.array(names[best], mask=top < _ABSTAINS_BELOW)
            values[f"{attribute}_confidence"] = pa.array(top)
    return values


def _quality(rng: np.random.Generator, n: int) -> Any:  # noqa: ANN401 - Arrow's stubs
    struct = _FACES["quality"].dataType
    names = struct.fieldNames() if isinstance(struct, StructType) else []
    fields = {name: pa.array(rng.uniform(0.0, 1.0, n).astype(np.float32)) for name in names}
    fields["face_px"] = pa.array(rng.uniform(20.0, 200.0, n).astype(np.float32))
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
