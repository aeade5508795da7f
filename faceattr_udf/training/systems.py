"""The networks that can be trained, by the name `attributes.model` knows them by, ready for the loop."""

from pathlib import Path

import numpy as np
from torch import nn

from faceattr_udf.evaluation.faces import LabelledFaces
from faceattr_udf.networks.mobilenet import INPUT_SIZE, MobileNetV1
from faceattr_udf.training.augment import center_window
from faceattr_udf.training.initial import load_earlier, load_faceres
from faceattr_udf.training.objectives import Objective, WeightedSum
from faceattr_udf.training.settings import TrainingSettings

_STATISTICS_FACES = 512


def start(settings: TrainingSettings, faces: LabelledFaces) -> tuple[nn.Module, Objective]:
    """Makes the network of a run with its initial weights, and what it minimises.

    Args:
        settings: Which network, and from which weights.
        faces: The training faces; FaceRes-deep's normalisation is estimated on some of them.

    Raises:
        WeightsError: The initial weights are missing or belong to another network.
    """
    network = MobileNetV1(settings.dropout)
    if settings.initial and settings.initial.endswith(".json"):
        chosen = np.sort(np.random.default_rng(settings.seed).permutation(len(faces))[:_STATISTICS_FACES])
        load_faceres(network, Path(settings.initial), center_window(np.asarray(faces.crops[chosen]), INPUT_SIZE))
    elif settings.initial:
        load_earlier(network, Path(settings.initial))
    return network, WeightedSum(settings)
