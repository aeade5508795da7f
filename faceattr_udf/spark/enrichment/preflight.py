"""Checks before a run writes anything: do the models load where they will run?"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import SparkSession

from faceattr_udf.config import Config
from faceattr_udf.errors import EngineError, FaceattrError
from faceattr_udf.spark.devices import tasks_get_gpus
from faceattr_udf.spark.udf import AnalyzerProvider, analyzer_pool


def check_models(spark: SparkSession, config: Config, provider: AnalyzerProvider) -> None:
    """Loads the models once: on the driver, or in a task where tasks get GPUs, because a driver may have none.

    Args:
        spark: A session.
        config: The configuration.
        provider: Loads analyzers.

    Raises:
        FaceattrError: The models do not load.
    """
    if not tasks_get_gpus(spark, config.runtime.device):
        with analyzer_pool(config, provider).borrow():
            return
    task = spark.range(0, 1, 1, 1).mapInArrow(_LoadModels(config.model_dump_json(), provider), "error string")
    for row in task.collect():
        if row.error is not None:
            raise EngineError(row.error)


@dataclass(frozen=True)
class _LoadModels:
    config_json: str
    provider: AnalyzerProvider

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        config = Config.model_validate_json(self.config_json)
        for batch in batches:
            error = None
            try:
                with analyzer_pool(config, self.provider).borrow():
                    pass
            except FaceattrError as raised:
                # Returned as a row: Spark would wrap an exception in its own and retry the task.
                error = str(raised)
            yield pa.RecordBatch.from_pydict({"error": pa.array([error] * batch.num_rows, pa.string())})
