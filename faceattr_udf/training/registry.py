"""The networks that can be trained, by the name `attributes.model` knows them by."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceattr_udf.attributes.labels import ATTRIBUTES
from faceattr_udf.datasets.labelled_faces import LabelledFaces
from faceattr_udf.errors import ConfigError
from faceattr_udf.networks import facenet, grey, towers
from faceattr_udf.training.data.augment import center_window
from faceattr_udf.training.export.openvino_graph import Precision
from faceattr_udf.training.objectives import DynamicWeights, Objective, WeightedSum
from faceattr_udf.training.pretrained import load_earlier, load_faceres
from faceattr_udf.training.settings import TrainingSettings

_STATISTICS_FACES = 512


@dataclass(frozen=True, slots=True)
class System:
    """What is particular to one network.

    Attributes:
        make: Dropout -> the network, with random weights.
        objective: Settings -> what a step minimises.
        input_size: Side of the input, pixels.
        outputs: What is served, in order.
        grayscale: Whether photographs are turned grey before anything looks at them.
        normalisation: What the network itself does to the pixels, for the record.
        precision: Of the graph.
        mirrored: Whether it is served a face and its mirror image, and gives the mean over both.
        ships: Suffixes of the files that belong to the weights.
    """

    make: Callable[[float], nn.Module]
    objective: Callable[[TrainingSettings], Objective]
    input_size: int
    outputs: tuple[str, ...]
    grayscale: bool
    normalisation: str
    precision: Precision = "float16"
    mirrored: bool = False
    ships: tuple[str, ...] = ("safetensors", "xml", "bin")


SYSTEMS = {
    "default": System(
        towers.TwoTowers,
        WeightedSum,
        towers.INPUT_SIZE,
        ATTRIBUTES,
        grayscale=False,
        normalisation="minus ImageNet's mean pixel, inside the graph",
        # A third of the time of float32, without loss: that is what twice the pixels are paid with.
        precision="int8",
        # The time of a pass for a point of ethnicity and of emotion.
        mirrored=True,
    ),
    "separate_grey": System(
        grey.SeparateGrey,
        WeightedSum,
        grey.INPUT_SIZE,
        tuple(grey.HEADS),
        grayscale=True,
        normalisation="luma / 127.5 - 1, inside the graph",
    ),
    "multitask_facenet": System(
        facenet.MultitaskFacenet,
        DynamicWeights,
        facenet.INPUT_SIZE,
        (*ATTRIBUTES, "embedding"),
        grayscale=False,
        normalisation="(x - 127.5) / 128, inside the graph",
        # 24 million parameters: the safetensors would be twice as large as all other weights together.
        precision="int8_constants",
        ships=("bin", "xml"),
    ),
}


def start(settings: TrainingSettings, faces: LabelledFaces) -> nn.Module:
    """Makes the network of a run with its initial weights.

    Args:
        settings: Which network, and from which weights.
        faces: The training faces; FaceRes-deep's normalisation is estimated on some of them.

    Raises:
        ConfigError: There is no GPU where one is asked for, a task has no weight, a layer to freeze does not exist,
            there are no weights to restore it from, or a resolution is too small for the network.
        WeightsError: The initial weights are missing or belong to another network.
    """
    system = SYSTEMS[settings.model]
    if settings.device == "cuda" and not torch.cuda.is_available():
        msg = "train.device = 'cuda', but torch sees no GPU; look at nvidia-smi, or set 'cpu'"
        raise ConfigError(msg)
    unweighted = [name for name in system.outputs if name in ATTRIBUTES and name not in settings.task_weights]
    if unweighted:
        msg = f"train.task_weights lacks {', '.join(unweighted)}, which {settings.model} predicts; give each a number"
        raise ConfigError(msg)
    network = system.make(settings.dropout)
    _check_resolutions(network, settings)
    frozen = settings.facenet.frozen
    if isinstance(network, facenet.MultitaskFacenet) and frozen:
        if not settings.initial:
            msg = "train.facenet.frozen names layers, but train.initial gives no weights to restore them from; set it"
            raise ConfigError(msg)
        try:
            network.freeze(frozen)
        except ValueError as error:
            msg = f"train.facenet.frozen = {frozen} is wrong: {error}"
            raise ConfigError(msg) from error
        load_earlier(network, Path(settings.initial), only=tuple(f"backbone.{layer}." for layer in frozen))
    elif isinstance(network, towers.TwoTowers) and settings.initial and settings.initial.endswith(".json"):
        load_faceres(network.general, Path(settings.initial), _some_crops(settings, faces))
    elif settings.initial:
        load_earlier(network, Path(settings.initial))
    if isinstance(network, towers.TwoTowers):
        if settings.emotion_from:
            load_earlier(network, Path(settings.emotion_from), only=("emotion",))
        network.learn(settings.tower)
    return network


def _some_crops(settings: TrainingSettings, faces: LabelledFaces) -> npt.NDArray[np.uint8]:
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(len(faces))[:_STATISTICS_FACES])
    return center_window(np.asarray(faces.crops[chosen]), towers.INPUT_SIZE)


def _check_resolutions(network: nn.Module, settings: TrainingSettings) -> None:
    network.eval()
    for _, side in settings.resolution:
        try:
            with torch.inference_mode():
                network(torch.zeros(1, 3, side, side))
        except RuntimeError as error:
            msg = f"train.resolution has {side} pixels, too few for {settings.model}; name larger faces"
            raise ConfigError(msg) from error
    network.train()
