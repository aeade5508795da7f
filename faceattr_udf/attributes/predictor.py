"""Face crops -> probabilities: one interface in front of every attribute model."""

from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from faceattr_udf.attributes.labels import AGE_GROUPS, ATTRIBUTES
from faceattr_udf.attributes.preprocess import UInt8Array, views
from faceattr_udf.attributes.svm import RbfSvm
from faceattr_udf.config import AttributesConfig
from faceattr_udf.errors import WeightsError
from faceattr_udf.inference.base import CPU
from faceattr_udf.inference.loading import load_network
from faceattr_udf.weights import WeightsRecord, is_shipped, load_file, load_record

Outputs = dict[str, npt.NDArray[np.float32]]

EMBEDDING: Final = "embedding"


class AttributePredictor(Protocol):
    """What every attribute model is to the analyzer.

    Attributes:
        record: What travels with the weights: input size, margin of the cut, classes, version.
    """

    record: WeightsRecord

    def predict(self, crops: UInt8Array) -> Outputs:
        """Predicts every attribute of every face that the model knows.

        Args:
            crops: uint8 (n, size, size, 3) RGB, as `cut_face` cuts them with the record's size and margin, from a grey
                photograph where the record says grayscale.

        Returns:
            Attribute -> float32 (n, classes) probabilities in the order of `labels.CLASSES`; "age" -> (n, 101), over
            whole years; perhaps "embedding" -> (n, d), L2-normalised.
        """
        ...


class GraphPredictor:
    """A model that is one network: pixels in, calibrated probabilities out."""

    def __init__(self, name: str, folder: str | Path | None = None, threads: int = 1, device: str = CPU) -> None:
        """Loads and verifies the weights.

        Args:
            name: File stem.
            folder: Other place of the files; None means the package.
            threads: CPU threads of one inference.
            device: "cpu" or "cuda:0".

        Raises:
            WeightsError: A file is missing, altered, or of another kind of network.
            EngineError: The device cannot be used.
        """
        self._graph = load_network(name, folder, threads, device)
        self.record = self._graph.record
        _check_classes(self.record)
        self._outputs = (*self.record.classes, *([EMBEDDING] if self.record.embedding else []))
        if len(self._graph.output_shapes) != len(self._outputs):
            msg = f"weights {name}.xml gives not the outputs that {name}.json names; make it again by export"
            raise WeightsError(msg)

    def predict(self, crops: UInt8Array) -> Outputs:
        """See `AttributePredictor.predict`."""
        if len(crops) == 0:
            shapes = zip(self._outputs, self._graph.output_shapes, strict=True)
            return {name: np.zeros((0, *shape), dtype=np.float32) for name, shape in shapes}
        return dict(zip(self._outputs, self._graph(*views(self.record, crops)), strict=True))


class SvmPredictor:
    """Support vector machines on the embedding of another model, whose graph is loaded with it."""

    def __init__(
        self,
        name: str,
        folder: str | Path | None = None,
        threads: int = 1,
        device: str = CPU,
        embedding: str | Path | None = None,
    ) -> None:
        """Loads and verifies the machines and the graph that they judge by.

        Args:
            name: File stem.
            folder: Other place of the files; None means the package.
            threads: CPU threads of one inference.
            device: Of the graph, "cpu" or "cuda:0"; the machines are evaluated on the CPU.
            embedding: Other place of the graph's files; None means that of the machines.

        Raises:
            WeightsError: A file is missing or altered, or the graph is not the one the machines were trained on.
            EngineError: The device cannot be used.
        """
        self.record = load_record(name, folder)
        _check_classes(self.record)
        if self.record.backbone is None:
            msg = f"the weights record {name}.json names no backbone to judge by; make it again by jobs.train"
            raise WeightsError(msg)
        backbone, _, version = self.record.backbone.rpartition("-")
        self._embedder = GraphPredictor(backbone, embedding or _place_of(backbone, folder), threads, device)
        if self._embedder.record.version != version:
            msg = (
                f"weights {name} belong to the embedding {self.record.backbone}, "
                f"not to version {self._embedder.record.version}; train one on the other again"
            )
            raise WeightsError(msg)
        try:
            arrays = load(load_file(self.record, "safetensors", folder))
            self._machines = {attribute: RbfSvm.from_arrays(arrays, attribute) for attribute in self.record.classes}
            # (age groups, years): how the ages of each group are spread.
            self._years = np.asarray(arrays["age.years"], dtype=np.float32)
            self.predict(np.zeros((1, *[self._embedder.record.input_size] * 2, 3), dtype=np.uint8))  # do shapes fit?
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            msg = f"weights {name}.safetensors are not support vector machines; make them again by jobs.train"
            raise WeightsError(msg) from error

    def predict(self, crops: UInt8Array) -> Outputs:
        """See `AttributePredictor.predict`; age is decided by group and spread over the group's years."""
        embedding = self._embedder.predict(crops)[EMBEDDING]
        outputs = {}
        for attribute, machine in self._machines.items():
            scores = machine.decide(embedding) / self.record.temperatures.get(attribute, 1.0)
            powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
            outputs[attribute] = powers / powers.sum(axis=1, keepdims=True)
        outputs["age"] = outputs["age"] @ self._years
        return {**outputs, EMBEDDING: embedding}


MODELS: Final[dict[str, tuple[str, type[GraphPredictor] | type[SvmPredictor]]]] = {
    "default": ("attributes_default", GraphPredictor),
    "separate_grey": ("attributes_separate_grey", GraphPredictor),
    "multitask_facenet": ("attributes_multitask_facenet", GraphPredictor),
    "embedding_svm": ("attributes_embedding_svm", SvmPredictor),
}
"""`attributes.model` -> file stem of its weights, and what runs them."""


def model_record(config: AttributesConfig) -> WeightsRecord:
    """Reads the record of the configured model, and nothing else.

    Raises:
        WeightsError: The model's files are not there.
    """
    return load_record(_file_stem(config), config.weights)


def load_predictor(config: AttributesConfig, threads: int = 1, device: str = CPU) -> AttributePredictor:
    """Loads the configured model.

    Args:
        config: Which model, and where its weights are if not in the package.
        threads: CPU threads of one inference.
        device: "cpu" or "cuda:0".

    Raises:
        WeightsError: The model's files are missing or altered.
        EngineError: The device cannot be used.
    """
    return MODELS[config.model][1](_file_stem(config), config.weights, threads, device)


def _file_stem(config: AttributesConfig) -> str:
    name, _ = MODELS[config.model]
    if config.weights is None and not is_shipped(name):
        msg = (
            f"the package carries no weights of attributes.model = {config.model!r}; make them by python -m jobs.train "
            f"--config conf/train/{config.model}.toml and name their folder in attributes.weights"
        )
        raise WeightsError(msg)
    return name


def _place_of(name: str, folder: str | Path | None) -> str | Path | None:
    """The folder if the network is there, else the package: own machines may judge by the embedding that ships."""
    return folder if folder is not None and (Path(folder) / f"{name}.json").exists() else None


def _check_classes(record: WeightsRecord) -> None:
    if not record.classes or tuple(record.classes) != tuple(a for a in ATTRIBUTES if a in record.classes):
        msg = f"weights {record.name} predict {', '.join(record.classes) or 'nothing'}, not {', '.join(ATTRIBUTES)}"
        raise WeightsError(msg)


def year_shares(ages: npt.NDArray[np.float32], years: int) -> npt.NDArray[np.float32]:
    """How ages spread within each ten-year group, for a model that knows groups only.

    Args:
        ages: (n,), of training faces, years.
        years: Bins of the result.

    Returns:
        float32 (groups, years); each row sums to 1. A year without a face counts as one half.
    """
    whole = np.arange(years)
    counts = np.bincount(np.clip(ages, 0, years - 1).round().astype(int), minlength=years) + 0.5
    groups = np.minimum(whole // 10, len(AGE_GROUPS) - 1)
    table = np.where(groups[None] == np.arange(len(AGE_GROUPS))[:, None], counts[None], 0.0)
    return np.asarray(table / table.sum(axis=1, keepdims=True), dtype=np.float32)
