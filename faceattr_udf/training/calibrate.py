"""Calibration: one softmax temperature per attribute (Guo et al. 2017), chosen on validation faces."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from faceattr_udf.attributes.labels import ATTRIBUTES
from faceattr_udf.datasets.labelled_faces import UNLABELLED, LabelledFaces
from faceattr_udf.evaluation.metrics import age_coverage
from faceattr_udf.training.losses import class_loss

COVERAGE = 0.8
"""What `age_low` and `age_high` promise."""

_HALVINGS = 20
_WIDEST = (0.02, 50.0)
_GRID = np.exp(np.linspace(np.log(0.1), np.log(2.5), 96))


def temperatures(logits: Mapping[str, npt.NDArray[np.float32]], faces: LabelledFaces) -> dict[str, float]:
    """Chooses the temperatures with the highest likelihood of the validation labels; of age, by its interval.

    Args:
        logits: Attribute -> float32 (n, classes); outputs that are no attribute are passed over.
        faces: Their labels.

    Returns:
        Attribute -> temperature; 1 where nothing is labelled.
    """
    return {
        name: age_temperature(logits[name], faces.age_range)
        if name == "age"
        else class_temperature(logits[name], faces.labels[name])
        for name in ATTRIBUTES
        if name in logits
    }


def class_temperature(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """The temperature of logits (n, classes) for labels (n,), -1 where unlabelled."""
    if not (labels != UNLABELLED).any():
        return 1.0
    tensor, truth = torch.from_numpy(logits), torch.from_numpy(labels)
    return _best([float(class_loss(tensor / t, truth, smoothing=0.0)) for t in _GRID])


def age_temperature(logits: npt.NDArray[np.float32], age_range: npt.NDArray[np.float32]) -> float:
    """The temperature of logits (n, 101) at which the 80 % interval covers 80 % of the exact ages (n, 2).

    The interval is what people use of the distribution; the temperature of the highest likelihood leaves it too wide.
    """
    exact = (age_range[:, 0] == age_range[:, 1]) & (age_range[:, 0] != UNLABELLED)
    if not exact.any():
        return 1.0
    tensor, ages = torch.from_numpy(logits[exact]), age_range[exact, 0]
    low, high = _WIDEST
    for _ in range(_HALVINGS):  # the hotter, the wider
        middle = math.sqrt(low * high)
        covered = age_coverage(torch.softmax(tensor / middle, dim=1).numpy(), ages)
        low, high = (middle, high) if covered is not None and covered < COVERAGE else (low, middle)
    return round(math.sqrt(low * high), 4)


def _best(losses: list[float]) -> float:
    return round(float(_GRID[int(np.argmin(losses))]), 4)
