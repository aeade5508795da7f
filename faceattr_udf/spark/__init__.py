"""Runs the analysis on Spark: images tables in, Delta tables of faces out.

    from faceattr_udf import Config
    from faceattr_udf.spark import enrich, ingest, start

    config, spark = Config(), start()
    ingest(spark, config, "photos", "images")
    enrich(spark, config, "images", "output")
    spark.read.format("delta").load("output/faces").show()

`start` returns a session of the configured engine: the embedded one, Apache Spark, or a Spark Connect server. In other
pipelines, `analyze_images` and `explode_faces` transform any DataFrame of images. `register_sql_functions` gives SQL
the table functions `detect_faces` and `detect_faces_of`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from faceattr_udf.spark.enrichment.run import enrich
    from faceattr_udf.spark.ingestion import ingest
    from faceattr_udf.spark.maintenance.actions import maintain
    from faceattr_udf.spark.marts.build import build_marts
    from faceattr_udf.spark.session import start
    from faceattr_udf.spark.sql_functions import register_sql_functions
    from faceattr_udf.spark.transforms import analyze_images, explode_faces

__all__ = [
    "analyze_images",
    "build_marts",
    "enrich",
    "explode_faces",
    "ingest",
    "maintain",
    "register_sql_functions",
    "start",
]

_MODULES: Final = {
    "analyze_images": "transforms",
    "build_marts": "marts.build",
    "enrich": "enrichment.run",
    "explode_faces": "transforms",
    "ingest": "ingestion",
    "maintain": "maintenance.actions",
    "register_sql_functions": "sql_functions",
    "start": "session",
}


def __getattr__(name: str) -> object:
    # Imported on first use: a Spark worker imports this package for its `udf` module only.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
