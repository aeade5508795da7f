"""Face crops -> probabilities: one interface in front of every attribute model."""

from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.labels import ATTRIBUTES
from faceattr_udf.config import AttributesConfig
from faceattr_udf.errors import WeightsError
from faceattr_udf.runtime import Graph
from faceattr_udf.weights import WeightsRecord, load_record

UInt8Array = npt.NDArray[np.uint8]

MODEL_FILES: Final = {"default": "attributes_default"}
"""`attributes.model` -> file stem of its weights."""


class AttributePredictor(Protocol):
    """What every attribute model is to the analyzer.

    Attributes:
        record: What travels with the weights: input size, margin of the cut, classes, version.
    """

    record: WeightsRecord

    def predict(self, crops: UInt8Array) -> dict[str, npt.NDArray[np.float32]]:
        """Predicts every attribute of every face.

        Args:
            crops: uint8 (n, size, size, 3) RGB, as `cut_face` cuts them with the record's size and margin.

        Returns:
            Attribute -> float32 (n, classes) probabilities in the order of `labels.CLASSES`; "age" -> (n, 101), over
            whole years; perhaps "embedding" -> (n, d), L2-normalised.
        """
        ...


class GraphPredictor:
    """A model that is one graph of the CPU runtime: pixels in, calibrated probabilities out."""

    def __init__(self, name: str, folder: str | Path | None = None, threads: int = 1) -> None:
        """Loads and verifies the weights.

        Args:
            name: File stem.
            folder: Other place of the files; None means the package.
            threads: CPU threads of one inference.

        Raises:
            WeightsError: A file is missing, altered, or of another kind of network.
        """
        self._graph = Graph(name, folder, threads)
        self.record = self._graph.record
        if tuple(self.record.classes) != ATTRIBUTES:
            msg = f"weights {name} predict {', '.join(self.record.classes) or 'nothing'}, not {', '.join(ATTRIBUTES)}"
            raise WeightsError(msg)

    def predict(self, crops: UInt8Array) -> dict[str, npt.NDArray[np.float32]]:
        """See `AttributePredictor.predict`."""
        if len(crops) == 0:
            return {name: np.zeros((0, len(c)), dtype=np.float32) for name, c in self.record.classes.items()}
        return dict(zip(self.record.classes, self._graph(crops), strict=True))


def model_record(config: AttributesConfig) -> WeightsRecord:
    """Reads the record of the configured model, and nothing else.

    Raises:
        WeightsError: The model's files are not there.
    """
    return load_record(_file_stem(config), config.weights)


def load_predictor(config: AttributesConfig, threads: int = 1) -> AttributePredictor:
    """Loads the configured model.

    Args:
        config: Which model, and where its weights are if not in the package.
        threads: CPU threads of one inference.

    Raises:
        WeightsError: The model's files are missing or altered.
    """
    return GraphPredictor(_file_stem(config), config.weights, threads)


def _file_stem(config: AttributesConfig) -> str:
    stem = MODEL_FILES.get(config.model)
    if stem is None:
        msg = f"attributes.model = {config.model!r} has no weights in this release; use {', '.join(MODEL_FILES)}"
        raise WeightsError(msg)
    return stem
