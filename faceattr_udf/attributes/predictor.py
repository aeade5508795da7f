"""Predicts the attributes of face crops: one interface for all attribute models."""

from collections.abc import Collection
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from faceattr_udf.arrays import Float32Array, UInt8Array
from faceattr_udf.attributes.preprocess import preprocess
from faceattr_udf.attributes.svm import RbfSvm
from faceattr_udf.attributes.vocabulary import ClassConverter
from faceattr_udf.config import AttributesConfig
from faceattr_udf.errors import WeightsError
from faceattr_udf.inference.base import CPU
from faceattr_udf.inference.loading import load_network
from faceattr_udf.labels import AGE_GROUPS
from faceattr_udf.models import MODELS
from faceattr_udf.weights import WeightsRecord, is_shipped, load_file, load_record

Outputs = dict[str, Float32Array]

EMBEDDING: Final = "embedding"


class AttributePredictor(Protocol):
    """The interface of an attribute model.

    Attributes:
        record: The metadata of its weights: input size, margin of the crops, classes, version.
    """

    record: WeightsRecord

    def predict(self, crops: UInt8Array) -> Outputs:
        """Predicts the attributes that the model knows.

        Args:
            crops: uint8 (n, size, size, 3) RGB, from `crop_face` with the record's size and margin; from grayscale
                photographs if the record says so.

        Returns:
            Attribute -> float32 (n, classes) probabilities in the order of `labels.CLASSES`; "age" -> (n, 101), over
            whole years; "embedding" -> (n, d), L2-normalized, if the model has one. Only what was asked for at loading.
        """
        ...


class NetworkPredictor:
    """A model that is one network, from pixels to calibrated probabilities."""

    def __init__(
        self,
        name: str,
        folder: str | Path | None = None,
        threads: int = 1,
        device: str = CPU,
        *,
        outputs: Collection[str] | None = None,
    ) -> None:
        """Loads and verifies the weights.

        Args:
            name: File stem.
            folder: Folder of the files; None means the package.
            threads: CPU threads per inference.
            device: "cpu" or "cuda:0".
            outputs: Attributes, and "embedding"; the network computes no others. None means all that it has.

        Raises:
            WeightsError: A file is missing or altered, the weights are not those of an attribute network, or the
                network's classes cannot be converted to the product's.
            EngineError: The device cannot be used.
        """
        record = load_record(name, folder)
        known = (*record.classes, *([EMBEDDING] if record.embedding else []))
        wanted = [output for output in known if outputs is None or output in outputs]
        # A graph without outputs cannot be compiled; a face needs no attributes.
        positions = None if len(wanted) in {0, len(known)} else [known.index(output) for output in wanted]
        self._outputs, self._wanted = tuple(wanted or known), tuple(wanted)
        self._network = load_network(name, folder, threads, device, outputs=positions)
        self.record = self._network.record
        self._convert = ClassConverter(self.record)
        sizes = [(len(self.record.classes[output]),) for output in self._outputs if output != EMBEDDING]
        shapes = self._network.output_shapes
        if len(shapes) != len(self._outputs) or shapes[: len(sizes)] != sizes:
            msg = (
                f"the outputs of {name}.xml do not match {name}.json; run python -m faceattr_udf.training.export {name}"
            )
            raise WeightsError(msg)

    def predict(self, crops: UInt8Array) -> Outputs:
        """See `AttributePredictor.predict`."""
        if not self._wanted:
            return {}
        if len(crops) == 0:
            outputs = [np.zeros((0, *shape), dtype=np.float32) for shape in self._network.output_shapes]
        else:
            outputs = self._network(*preprocess(self.record, crops))
        return self._convert(dict(zip(self._outputs, outputs, strict=True)))


class SvmPredictor:
    """A model that is one SVM per attribute on the embedding of another network."""

    def __init__(
        self,
        name: str,
        folder: str | Path | None = None,
        threads: int = 1,
        device: str = CPU,
        embedding: str | Path | None = None,
        *,
        outputs: Collection[str] | None = None,
    ) -> None:
        """Loads and verifies the SVMs and the network of their embedding.

        Args:
            name: File stem.
            folder: Folder of the files; None means the package.
            threads: CPU threads per inference.
            device: Device of the network, "cpu" or "cuda:0"; the SVMs are evaluated on the CPU.
            embedding: Folder of the network's files; None means `folder` if it has them, else the package.
            outputs: As for `NetworkPredictor`.

        Raises:
            WeightsError: A file is missing or altered, the SVMs were trained on the embedding of another network, or
                their classes cannot be converted to the product's.
            EngineError: The device cannot be used.
        """
        self.record = load_record(name, folder)
        self._convert = ClassConverter(self.record)
        if self.record.backbone is None:
            msg = f"the weights record {name}.json names no backbone; train the SVMs again with jobs.train"
            raise WeightsError(msg)
        backbone, _, version = self.record.backbone.rpartition("-")
        self._embedder = NetworkPredictor(
            backbone, embedding or _embedding_folder(backbone, folder), threads, device, outputs=(EMBEDDING,)
        )
        if self._embedder.record.version != version:
            msg = (
                f"weights {name} were trained on the embedding {self.record.backbone}, but its installed version is "
                f"{self._embedder.record.version}; train the SVMs again with jobs.train"
            )
            raise WeightsError(msg)
        try:
            arrays = load(load_file(self.record, "safetensors", folder))
            wanted = [name for name in self.record.classes if outputs is None or name in outputs]
            self._has_embedding = outputs is None or EMBEDDING in outputs
            self._classifiers = {attribute: RbfSvm.from_arrays(arrays, attribute) for attribute in wanted}
            # (age groups, years): the distribution of ages within each group.
            self._years = np.asarray(arrays["age.years"], dtype=np.float32)
            self.predict(np.zeros((1, *[self._embedder.record.input_size] * 2, 3), dtype=np.uint8))  # checks the shapes
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            msg = f"{name}.safetensors does not hold valid SVMs; train them again with jobs.train"
            raise WeightsError(msg) from error

    def predict(self, crops: UInt8Array) -> Outputs:
        """See `AttributePredictor.predict`; age groups are classified, then distributed over their years."""
        embedding = self._embedder.predict(crops)[EMBEDDING]
        outputs: Outputs = {}
        for attribute, classifier in self._classifiers.items():
            scores = classifier.decision_function(embedding) / self.record.temperatures.get(attribute, 1.0)
            powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
            outputs[attribute] = powers / powers.sum(axis=1, keepdims=True)
        if "age" in outputs:
            outputs["age"] = outputs["age"] @ self._years
        if self._has_embedding:
            outputs[EMBEDDING] = embedding
        return self._convert(outputs)


_PREDICTORS: Final[dict[str, type[NetworkPredictor] | type[SvmPredictor]]] = {
    "network": NetworkPredictor,
    "svm": SvmPredictor,
}
"""Kind of a model -> the class that runs it."""


def model_record(config: AttributesConfig) -> WeightsRecord:
    """Loads the record of the configured model, without its weights.

    Raises:
        WeightsError: The record is missing or malformed.
    """
    return load_record(_file_stem(config), config.weights)


def load_predictor(
    config: AttributesConfig, threads: int = 1, device: str = CPU, *, embedding: bool = False
) -> AttributePredictor:
    """Loads the configured model, which then computes only the configured attributes.

    Args:
        config: Names the model, the attributes to predict and, if the package does not ship its weights, their folder.
        threads: CPU threads per inference.
        device: "cpu" or "cuda:0".
        embedding: Whether the embedding is wanted too.

    Raises:
        WeightsError: The model's files are missing or altered.
        EngineError: The device cannot be used.
    """
    outputs = (*config.predict, *([EMBEDDING] if embedding else []))
    predictor = _PREDICTORS[MODELS[config.model].kind]
    return predictor(_file_stem(config), config.weights, threads, device, outputs=outputs)


def _file_stem(config: AttributesConfig) -> str:
    name = MODELS[config.model].weights
    if config.weights is None and not is_shipped(name):
        msg = (
            f"the package has no weights for attributes.model = {config.model!r}; train them with python -m jobs.train "
            f"--config conf/train/{config.model}.toml and name their folder in attributes.weights"
        )
        raise WeightsError(msg)
    return name


def _embedding_folder(name: str, folder: str | Path | None) -> str | Path | None:
    """Returns the folder if it has the network; None otherwise: user-trained SVMs may use the shipped embedding."""
    return folder if folder is not None and (Path(folder) / f"{name}.json").exists() else None


def years_within_groups(ages: Float32Array, years: int) -> Float32Array:
    """Computes the distribution of ages within each ten-year group, for a model that predicts only groups.

    Args:
        ages: (n,), ages of training faces, years.
        years: Number of age classes.

    Returns:
        float32 (groups, years); each row sums to 1. Half a face is added to every year, so that no year of a group has
        probability 0.
    """
    whole = np.arange(years)
    counts = np.bincount(np.clip(ages, 0, years - 1).round().astype(int), minlength=years) + 0.5
    groups = np.minimum(whole // 10, len(AGE_GROUPS) - 1)
    table = np.where(groups[None] == np.arange(len(AGE_GROUPS))[:, None], counts[None], 0.0)
    return np.asarray(table / table.sum(axis=1, keepdims=True), dtype=np.float32)
