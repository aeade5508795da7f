"""The ready queries over the marts, and the views that they name."""

from importlib import resources

from pyspark.sql import SparkSession

from faceattr_udf.config import Config
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.locations import Outputs
from faceattr_udf.spark.marts.layout import mart_refs
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.tables import Tables


def queries() -> dict[str, str]:
    """Returns the queries that the package ships: name -> SQL, in the order of the names."""
    files = (resources.files("faceattr_udf") / "sql").iterdir()
    texts = {
        file.name.removesuffix(".sql"): file.read_text(encoding="utf-8") for file in files if file.name.endswith(".sql")
    }
    return dict(sorted(texts.items()))


def register_views(spark: SparkSession, output: str, config: Config | None = None) -> list[str]:
    """Makes the marts and tables of an output folder temporary views of the session: `shares`, `faces`, ...

    Args:
        spark: A session.
        output: The folder of the output tables, the same as for `enrich`.
        config: Names the tables; None means the defaults.

    Returns:
        The names of the views; tables that do not exist have none.
    """
    with adopted(spark, config or Config()) as fitting:
        outputs = Outputs.of(fitting, qualified(spark, output))
        tables = Tables(spark, fitting.engine.name)
        found = {name: tables.find(ref) for name, ref in {**outputs.tables, **mart_refs(outputs.folder)}.items()}
        for name, frame in found.items():
            if frame is not None:
                frame.createOrReplaceTempView(name)
        return [name for name, frame in found.items() if frame is not None]
