"""The networks that can be trained and exported, by model name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from faceattr_udf.arrays import UInt8Array
from faceattr_udf.datasets.labeled_faces import LabeledFaces
from faceattr_udf.errors import ConfigError, WeightsError
from faceattr_udf.labels import ATTRIBUTES
from faceattr_udf.models import MODELS, ModelName
from faceattr_udf.networks import facenet, grey, towers
from faceattr_udf.training.data.augment import center_crop
from faceattr_udf.training.export.openvino_graph import Precision
from faceattr_udf.training.objectives import DynamicWeights, Objective, WeightedSum
from faceattr_udf.training.pretrained import load_faceres, load_pretrained
from faceattr_udf.training.settings import TrainingSettings

_STATISTICS_FACES = 512


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """How one network is trained and exported.

    Attributes:
        build: Dropout -> the network with random weights.
        objective: Settings -> the objective to minimize.
        input_size: Side of the input, pixels.
        outputs: Names of the graph's outputs, in order.
        grayscale: Whether photographs are converted to grayscale before detection.
        normalization: How the network normalizes pixels, for the record.
        precision: Precision of the graph.
        mirrored: Whether the graph averages the predictions for a face and for its mirror image.
        file_suffixes: Suffixes of the files that are shipped.
    """

    build: Callable[[float], nn.Module]
    objective: Callable[[TrainingSettings], Objective]
    input_size: int
    outputs: tuple[str, ...]
    grayscale: bool
    normalization: str
    precision: Precision = "float16"
    mirrored: bool = False
    file_suffixes: tuple[str, ...] = ("safetensors", "xml", "bin")


TRAINING_SPECS: Final[dict[ModelName, TrainingSpec]] = {
    "default": TrainingSpec(
        towers.TwoTowers,
        WeightedSum,
        towers.INPUT_SIZE,
        ATTRIBUTES,
        grayscale=False,
        normalization="minus ImageNet's mean pixel, inside the graph",
        # A third of the time of float32 at equal accuracy; it pays for an input with twice the pixels.
        precision="int8",
        # Doubles the time of the general branch and gains a percentage point of ethnicity and of emotion.
        mirrored=True,
    ),
    "separate_grey": TrainingSpec(
        grey.SeparateGrey,
        WeightedSum,
        grey.INPUT_SIZE,
        tuple(grey.HEADS),
        grayscale=True,
        normalization="luma / 127.5 - 1, inside the graph",
    ),
    "multitask_facenet": TrainingSpec(
        facenet.MultitaskFacenet,
        DynamicWeights,
        facenet.INPUT_SIZE,
        (*ATTRIBUTES, "embedding"),
        grayscale=False,
        normalization="(x - 127.5) / 128, inside the graph",
        # 24 million parameters: the safetensors would be twice as large as all other weights together.
        precision="int8_constants",
        file_suffixes=("bin", "xml"),
    ),
}


def spec_for_architecture(architecture: str) -> TrainingSpec:
    """Returns the specification of an architecture, as weight records name it.

    Raises:
        WeightsError: No specification has that architecture.
    """
    for name, spec in TRAINING_SPECS.items():
        if MODELS[name].architecture == architecture:
            return spec
    known = ", ".join(MODELS[name].architecture for name in TRAINING_SPECS)
    msg = f"{architecture} cannot be exported; the architectures with a graph are {known}"
    raise WeightsError(msg)


def initialize_network(settings: TrainingSettings, faces: LabeledFaces) -> nn.Module:
    """Builds the network of a run with its initial weights.

    Args:
        settings: Name the network and its initial weights.
        faces: Training faces; some of them provide the batch statistics of FaceRes-deep.

    Raises:
        ConfigError: No GPU where the settings name one, a task without a weight, an unknown layer to freeze, no weights
            to restore frozen layers from, or a resolution that is too small for the network.
        WeightsError: The initial weights are missing or belong to another network.
    """
    spec = TRAINING_SPECS[settings.model]
    if settings.device == "cuda" and not torch.cuda.is_available():
        msg = "train.device = 'cuda', but torch sees no GPU; check nvidia-smi, or set 'cpu'"
        raise ConfigError(msg)
    weights = settings.loss.task_weights
    unweighted = [name for name in spec.outputs if name in ATTRIBUTES and name not in weights]
    if unweighted:
        msg = f"train.loss.task_weights lacks {', '.join(unweighted)}, which {settings.model} predicts; add them"
        raise ConfigError(msg)
    network = spec.build(settings.dropout)
    _check_resolutions(network, settings)
    if isinstance(network, facenet.MultitaskFacenet) and settings.facenet.frozen_layers:
        _restore_frozen_layers(network, settings)
    elif isinstance(network, towers.TwoTowers) and settings.initial and settings.initial.endswith(".json"):
        load_faceres(network.general, Path(settings.initial), _some_crops(settings, faces))
    elif settings.initial:
        load_pretrained(network, Path(settings.initial))
    if isinstance(network, towers.TwoTowers):
        if settings.emotion_from:
            load_pretrained(network, Path(settings.emotion_from), prefixes=("emotion",))
        network.select_branch(settings.branch, settings.frozen_units)
    return network


def _restore_frozen_layers(network: facenet.MultitaskFacenet, settings: TrainingSettings) -> None:
    layers = settings.facenet.frozen_layers
    if not settings.initial:
        msg = "train.facenet.frozen_layers needs weights to restore those layers from; set train.initial"
        raise ConfigError(msg)
    try:
        network.freeze(layers)
    except ValueError as error:
        msg = f"train.facenet.frozen_layers = {layers} is wrong: {error}"
        raise ConfigError(msg) from error
    load_pretrained(network, Path(settings.initial), prefixes=tuple(f"backbone.{layer}." for layer in layers))


def _some_crops(settings: TrainingSettings, faces: LabeledFaces) -> UInt8Array:
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(len(faces))[:_STATISTICS_FACES])
    return center_crop(np.asarray(faces.crops[chosen]), towers.INPUT_SIZE)


def _check_resolutions(network: nn.Module, settings: TrainingSettings) -> None:
    network.eval()
    for _, side in settings.data.resolution_schedule:
        try:
            with torch.inference_mode():
                network(torch.zeros(1, 3, side, side))
        except RuntimeError as error:
            msg = (
                f"train.data.resolution_schedule has {side} pixels, too few for {settings.model}; choose a larger side"
            )
            raise ConfigError(msg) from error
    network.train()
