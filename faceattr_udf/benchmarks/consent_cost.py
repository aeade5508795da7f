"""Benchmark of consents: what a table of them costs nights that have nothing to do."""

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.benchmarks.engine_meter import Cost, least_cpu, measured
from faceattr_udf.benchmarks.stub_analyzer import STUB, write_stub_table
from faceattr_udf.config import Config
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.session import start

_IMAGES_PER_SUBJECT: Final = 10
_PAIRS: Final = 3
_PURPOSE: Final = "research"


def consent(configs: Mapping[str, Config], events: Path, images: int) -> dict[str, Any]:
    """Measures nights with nothing new, in turn without consents and with a table of them in which all agree.

    Args:
        configs: Engine -> configuration that selects it.
        events: The folder of Spark's event log.
        images: Rows of the images table, ten of each subject.
    """
    results: dict[str, Any] = {"images": images}
    with tempfile.TemporaryDirectory() as name:
        files = write_stub_table(Path(name) / "files", images)
        for engine_name, config in configs.items():
            folder = Path(name) / engine_name
            results[engine_name] = _measure(config, files, images, folder, events if engine_name == "spark" else None)
    return results


def _measure(config: Config, files: Path, images: int, folder: Path, events: Path | None) -> dict[str, Any]:
    spark = start(config)
    table, consents = str(folder / "images"), str(folder / "consents")
    subject = F.pmod(F.xxhash64("image_id"), F.lit(images // _IMAGES_PER_SUBJECT))
    rows = spark.read.parquet(str(files)).withColumn("subject_id", subject)
    rows.write.format("delta").save(table)
    agreed = spark.read.format("delta").load(table).select("subject_id").distinct()
    granted = F.lit(datetime(2026, 1, 1, tzinfo=UTC))
    agreed = agreed.withColumn("purpose", F.lit(_PURPOSE)).withColumn("granted_at", granted)
    agreed.write.format("delta").save(consents)
    asking = config.model_copy(
        update={
            "consent": config.consent.model_copy(update={"table": consents}),
            "privacy": config.privacy.model_copy(update={"purpose": _PURPOSE}),
        }
    )

    def night(with_consents: bool) -> Cost:
        output = str(folder / ("asked" if with_consents else "out"))
        with measured(events) as cost:
            enrich(spark, asking if with_consents else config, table, output, provider=STUB)
        return cost

    for with_consents in (False, True, False, True):  # the JVM compiles what it runs often
        night(with_consents)
    pairs = [(night(False), night(True)) for _ in range(_PAIRS)]
    without, asked = ([pair[number] for pair in pairs] for number in range(2))
    return {
        "nothing new, without consents": [cost.summary() for cost in without],
        "nothing new, with consents": [cost.summary() for cost in asked],
        "cpu_of_a_night_with_consents": round(least_cpu(asked) / least_cpu(without), 3),
    }
