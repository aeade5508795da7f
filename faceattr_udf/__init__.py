"""Perceived age, gender, ethnicity and emotion of every face in an image catalogue, on Spark.

`FaceAnalyzer.from_config(None).analyze([bytes, ...])` is the way in without Spark; `faceattr_udf.spark` is the way in
with it. Importing this package loads no network runtime and no Spark.
"""

from typing import TYPE_CHECKING

from faceattr_udf.config import Config
from faceattr_udf.errors import (
    ConfigError,
    EngineError,
    FaceattrError,
    ImageError,
    SchemaError,
    TableNotFoundError,
    WeightsError,
)
from faceattr_udf.results import AgePrediction, BoundingBox, ClassPrediction, Face, ImageResult, ImageStatus, Quality

if TYPE_CHECKING:
    from faceattr_udf.analyzer import FaceAnalyzer, model_version

__all__ = [
    "AgePrediction",
    "BoundingBox",
    "ClassPrediction",
    "Config",
    "ConfigError",
    "EngineError",
    "Face",
    "FaceAnalyzer",
    "FaceattrError",
    "ImageError",
    "ImageResult",
    "ImageStatus",
    "Quality",
    "SchemaError",
    "TableNotFoundError",
    "WeightsError",
    "model_version",
]


def __getattr__(name: str) -> object:
    # A Spark driver imports this package for schemas and errors; only who analyses pays for OpenCV and Pillow.
    if name in {"FaceAnalyzer", "model_version"}:
        from faceattr_udf import analyzer  # noqa: PLC0415

        return getattr(analyzer, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
