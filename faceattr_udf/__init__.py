"""Perceived age, gender, ethnicity and emotion of every face in a table of images, on Spark.

Use `FaceAnalyzer.from_config(None).analyze([bytes, ...])` without Spark and `faceattr_udf.spark` with Spark.

Importing this package loads only the errors; everything else is imported on first use. Command lines start fast, and a
Spark driver, which needs only schemas and errors, does not load OpenCV, Pillow or a network runtime.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from faceattr_udf.errors import (
    ArgumentError,
    BusyError,
    ConfigError,
    EngineError,
    FaceattrError,
    ImageError,
    SchemaError,
    TableNotFoundError,
    WeightsError,
)

if TYPE_CHECKING:
    from faceattr_udf.analyzer import FaceAnalyzer, model_version
    from faceattr_udf.config import Config
    from faceattr_udf.results import (
        AgePrediction,
        BoundingBox,
        ClassPrediction,
        Face,
        ImageResult,
        ImageStatus,
        Quality,
    )

    __version__: str

__all__ = [
    "AgePrediction",
    "ArgumentError",
    "BoundingBox",
    "BusyError",
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
    "__version__",
    "model_version",
]

_LAZY_MODULES = {
    "faceattr_udf.analyzer": ("FaceAnalyzer", "model_version"),
    "faceattr_udf.config": ("Config",),
    "faceattr_udf.results": (
        "AgePrediction",
        "BoundingBox",
        "ClassPrediction",
        "Face",
        "ImageResult",
        "ImageStatus",
        "Quality",
    ),
}
_LAZY_NAMES = {name: module for module, names in _LAZY_MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Imports a public name on its first use."""
    if name == "__version__":
        value: object = _version()
    elif name in _LAZY_NAMES:
        value = getattr(import_module(_LAZY_NAMES[name]), name)
    else:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415 - costs 18 ms, and few need the version

    try:
        return metadata.version(__name__)
    except metadata.PackageNotFoundError:
        return "0+unknown"  # Spark workers import the package from a zip, which has no metadata
