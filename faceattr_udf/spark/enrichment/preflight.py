"""Before anything is written: do the models load where they will run?"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import SparkSession

from faceattr_udf.config import Config
from faceattr_udf.errors import EngineError, FaceattrError
from faceattr_udf.spark.devices import tasks_get_gpus
from faceattr_udf.spark.udf import AnalyzerProvider, pool


def check_models(spark: SparkSession, config: Config, provider: AnalyzerProvider) -> None:
    """Loads the models once: on the driver, or in a task where tasks have GPUs, which a driver need not have.

    Args:
        spark: A session.
        config: The configuration.
        provider: Where analyzers come from.

    Raises:
        FaceattrError: They do not load.
    """
    if not tasks_get_gpus(spark, config.runtime.device):
        with pool(config, provider).borrow():
            return
    task = spark.range(0, 1, 1, 1).mapInArrow(_Load(config.model_dump_json(), provider), "error string")
    for row in task.collect():
        if row.error is not None:
            raise EngineError(row.error)


@dataclass(frozen=True)
class _Load:
    config_json: str
    provider: AnalyzerProvider

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        config = Config.model_validate_json(self.config_json)
        for batch in batches:
            error = None
            try:
                with pool(config, self.provider).borrow():
                    pass
            except FaceattrError as raised:
                # As a row: an exception would come back as Spark's, with its class lost and the task tried again.
                error = str(raised)
            yield pa.RecordBatch.from_pydict({"error": pa.array([error] * batch.num_rows, pa.string())})
