"""Writes the results of the ready queries over the tests' photographs, which docs/marts.md shows.

PYTHONPATH=.:tests python tests/spark/marts/write_results.py && python docs/generate.py
"""

import tempfile
from pathlib import Path

from conftest import Engine
from marts_data import night, shipped_calibration, write
from pyspark.sql import SparkSession

from faceattr_udf.cli.text_table import text_table
from faceattr_udf.config import Config
from faceattr_udf.spark import build_marts, start
from faceattr_udf.spark.marts.queries import queries, register_views

RESULTS = Path(__file__).parents[3] / "docs" / "marts"


def printed(spark: SparkSession, sql: str) -> str:
    """Returns the result of a query as text; numbers without trailing zeros, because engines differ in them."""
    frame = spark.sql(sql)
    rows = [tuple("null" if value is None else _text(value) for value in row) for row in frame.collect()]
    return text_table(frame.columns, rows) + "\n"


def _text(value: object) -> str:
    return f"{float(value):g}" if not isinstance(value, str) else value  # type: ignore[arg-type]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine("sail", start(Config()), ())
        write(engine, Path(folder), night())
        build_marts(engine.session, Config(), folder, shipped_calibration())
        register_views(engine.session, folder)
        for name, sql in queries().items():
            (RESULTS / f"{name}.txt").write_text(printed(engine.session, sql), encoding="utf-8")
