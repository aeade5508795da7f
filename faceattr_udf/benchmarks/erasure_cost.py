"""Benchmark of erasures: one image in a thousand, and what tombstones cost nights that have nothing to do."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from faceattr_udf.benchmarks.engine_meter import Cost, least_cpu, measured
from faceattr_udf.benchmarks.stub_analyzer import STUB, write_stub_table
from faceattr_udf.config import Config
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.erasure import Wish, erase
from faceattr_udf.spark.session import start

_ONE_IN: Final = 1_000


def erasure(configs: Mapping[str, Config], events: Path, images: int) -> dict[str, Any]:
    """Measures an erasure of one image in a thousand from the output and from the images table, with its search.

    Args:
        configs: Engine -> configuration that selects it.
        events: The folder of Spark's event log.
        images: Rows of the images table.
    """
    results: dict[str, Any] = {"images": images}
    with tempfile.TemporaryDirectory() as name:
        files = write_stub_table(Path(name) / "files", images)
        for engine_name, config in configs.items():
            folder = Path(name) / engine_name
            privacy = config.privacy.model_copy(update={"key_file": str(folder / "erasure.key")})
            keyed = config.model_copy(update={"privacy": privacy})
            results[engine_name] = _measure(keyed, files, folder, events if engine_name == "spark" else None)
    return results


def _measure(config: Config, files: Path, folder: Path, events: Path | None) -> dict[str, Any]:
    spark = start(config)
    table, output = str(folder / "images"), str(folder / "out")
    rows = spark.read.parquet(str(files))
    rows.write.format("delta").save(table)
    ids = sorted(row["image_id"] for row in rows.select("image_id").collect())[::_ONE_IN]
    enrich(spark, config, table, output, provider=STUB)

    def nothing_new() -> Cost:
        with measured(events) as cost:
            enrich(spark, config, table, output, provider=STUB)
        return cost

    nothing_new()  # the JVM compiles what it runs often
    before = [nothing_new() for _ in range(3)]
    with measured(events) as cost:
        certificate = erase(spark, config, output, Wish(image_ids=ids), images=table)
    after = [nothing_new() for _ in range(3)]
    return {
        "erased": len(ids),
        "erasure": cost.summary(),
        "certificate": {key: certificate.as_data()[key] for key in ("rows_deleted", "searched")},
        "nothing new, before": [night.summary() for night in before],
        "nothing new, with tombstones": [night.summary() for night in after],
        "cpu_of_a_night_with_tombstones": round(least_cpu(after) / least_cpu(before), 3),
    }
