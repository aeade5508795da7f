"""Calibration: one softmax temperature per attribute (Guo et al. 2017), chosen on validation faces."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from faceattr_udf.attributes.labels import ATTRIBUTES
from faceattr_udf.evaluation.faces import UNLABELLED, LabelledFaces
from faceattr_udf.training.losses import age_loss, class_loss

_GRID = np.exp(np.linspace(np.log(0.1), np.log(2.5), 96))


def temperatures(logits: Mapping[str, npt.NDArray[np.float32]], faces: LabelledFaces) -> dict[str, float]:
    """Chooses the temperatures with the highest likelihood of the validation labels.

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
    """The temperature of logits (n, 101) for ages known as ranges (n, 2), -1 where unlabelled."""
    ages = torch.from_numpy(age_range)
    labelled = ages[:, 0] != UNLABELLED
    if not labelled.any():
        return 1.0
    # An exact age is a range of one year: its likelihood needs no assumed spread.
    exact = labelled & (ages[:, 0] == ages[:, 1])
    widened = torch.where(exact[:, None], ages + torch.tensor([-1e-3, 1e-3]), ages)
    tensor = torch.from_numpy(logits)
    return _best([float(age_loss(tensor / t, widened, sigma=1.0, regression=0.0)) for t in _GRID])


def _best(losses: list[float]) -> float:
    return round(float(_GRID[int(np.argmin(losses))]), 4)
