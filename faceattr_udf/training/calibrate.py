"""Calibration: one softmax temperature per attribute (Guo et al. 2017), fitted on validation faces."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from faceattr_udf.arrays import Float32Array
from faceattr_udf.datasets.labeled_faces import UNLABELED, LabeledFaces
from faceattr_udf.evaluation.metrics import age_coverage
from faceattr_udf.labels import ATTRIBUTES
from faceattr_udf.training.losses import class_loss

COVERAGE = 0.8
"""The share of true ages that the interval from `age_low` to `age_high` should cover."""

_BISECTIONS = 20
_AGE_TEMPERATURES = (0.02, 50.0)
_CLASS_TEMPERATURES = np.exp(np.linspace(np.log(0.1), np.log(2.5), 96))


def fit_temperatures(logits: Mapping[str, Float32Array], faces: LabeledFaces) -> dict[str, float]:
    """Fits the temperature of every attribute: of classes by likelihood, of age by the coverage of its interval.

    Args:
        logits: Attribute -> float32 (n, classes); other outputs are ignored.
        faces: The n validation faces with their labels.

    Returns:
        Attribute -> temperature; 1 where no face is labeled.
    """
    return {
        name: fit_age_temperature(logits[name], faces.age_range)
        if name == "age"
        else fit_class_temperature(logits[name], faces.labels[name])
        for name in ATTRIBUTES
        if name in logits
    }


def fit_class_temperature(logits: Float32Array, labels: npt.NDArray[np.int64]) -> float:
    """Returns the temperature of logits (n, classes) with the highest likelihood of labels (n,); -1 is unlabeled."""
    if not (labels != UNLABELED).any():
        return 1.0
    tensor, truth = torch.from_numpy(logits), torch.from_numpy(labels)
    losses = [float(class_loss(tensor / t, truth, smoothing=0.0)) for t in _CLASS_TEMPERATURES]
    return round(float(_CLASS_TEMPERATURES[int(np.argmin(losses))]), 4)


def fit_age_temperature(logits: Float32Array, age_range: Float32Array) -> float:
    """Returns the temperature of logits (n, 101) at which the 80 % interval covers 80 % of the exact ages (n, 2).

    Users read the interval; the temperature of the highest likelihood makes it too wide.
    """
    exact = (age_range[:, 0] == age_range[:, 1]) & (age_range[:, 0] != UNLABELED)
    if not exact.any():
        return 1.0
    tensor, ages = torch.from_numpy(logits[exact]), age_range[exact, 0]
    low, high = _AGE_TEMPERATURES
    for _ in range(_BISECTIONS):  # coverage grows with the temperature
        middle = math.sqrt(low * high)
        covered = age_coverage(torch.softmax(tensor / middle, dim=1).numpy(), ages)
        low, high = (middle, high) if covered is not None and covered < COVERAGE else (low, middle)
    return round(math.sqrt(low * high), 4)
