"""Calibration: one softmax temperature per attribute (Guo et al. 2017), fitted on validation faces."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, logsumexp, softmax

from faceattr_udf.arrays import BoolArray, Float32Array, Float64Array
from faceattr_udf.datasets.labeled_faces import LabeledFaces, label_matrix
from faceattr_udf.evaluation.metrics import age_intervals
from faceattr_udf.labels import ATTRIBUTES

COVERAGE = 0.84
"""The share of validation ages that the 80 % interval from `age_low` to `age_high` is calibrated to cover.

Validation faces come from the sources of training, and errors are larger on other photographs: four points more keep
the interval nearer to 80 % there.
"""

_BISECTIONS = 20
_AGE_TEMPERATURES = (0.02, 50.0)
_CLASS_TEMPERATURES = np.exp(np.linspace(np.log(0.1), np.log(2.5), 96))


def fit_temperatures(logits: Mapping[str, Float32Array], faces: LabeledFaces) -> dict[str, float]:
    """Fits the temperature of every attribute: of classes by likelihood, of age by the coverage of its interval.

    Every source counts equally, however many faces it has: a large source that the network knows well would otherwise
    make it too confident on all others.

    Args:
        logits: Attribute -> float32 (n, classes); other outputs are ignored.
        faces: The n validation faces with their labels.

    Returns:
        Attribute -> temperature; 1 where no face is labeled.
    """
    temperatures = {}
    for name in ATTRIBUTES:
        if name in logits:
            labeled = faces.has_exact_age() if name == "age" else faces.labeled(name)
            weights = source_weights(faces.source[labeled])
            if name == "age":
                temperature = fit_age_temperature(logits[name][labeled], faces.age_range[labeled, 0], weights)
            else:
                members = label_matrix(name)[faces.labels[name][labeled]]
                temperature = fit_class_temperature(logits[name][labeled], members, weights)
            temperatures[name] = temperature
    return temperatures


def source_weights(sources: npt.NDArray[np.str_]) -> Float64Array:
    """Returns weights (n,) that sum to 1, with an equal sum for each of the sources (n,).

    >>> source_weights(np.array(["a", "b", "b"])).tolist()
    [0.5, 0.25, 0.25]
    """
    names, index, counts = np.unique(sources, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (counts[index] * max(1, len(names))), dtype=np.float64)


def fit_class_temperature(logits: Float32Array, members: BoolArray, weights: Float64Array) -> float:
    """Returns the temperature with the highest weighted likelihood of the labels; 1 without faces.

    Args:
        logits: (n, classes).
        members: (n, classes), which classes the label of each face stands for.
        weights: (n,).
    """
    if len(logits) == 0:
        return 1.0
    inside = np.where(members, 0.0, -np.inf)

    def loss(temperature: float) -> float:
        log_probability = log_softmax(logits.astype(np.float64) / temperature, axis=1)
        return -float(weights @ logsumexp(log_probability + inside, axis=1))

    return round(float(min(_CLASS_TEMPERATURES, key=loss)), 4)


def fit_age_temperature(logits: Float32Array, ages: Float32Array, weights: Float64Array) -> float:
    """Returns the temperature at which the 80 % interval covers a weighted `COVERAGE` of the ages; 1 without faces.

    Users read the interval; the temperature of the highest likelihood makes it too wide.

    Args:
        logits: (n, 101).
        ages: (n,), years.
        weights: (n,), with a sum of 1.
    """
    if len(ages) == 0:
        return 1.0
    low, high = _AGE_TEMPERATURES
    for _ in range(_BISECTIONS):  # coverage grows with the temperature
        middle = math.sqrt(low * high)
        bounds = age_intervals(softmax(logits / np.float32(middle), axis=1))
        covered = float(weights @ ((ages >= bounds[:, 0]) & (ages <= bounds[:, 1])))
        low, high = (middle, high) if covered < COVERAGE else (low, middle)
    return round(math.sqrt(low * high), 4)
