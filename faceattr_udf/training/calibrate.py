"""Calibration: one softmax temperature per attribute (Guo et al. 2017), chosen on validation faces."""

import numpy as np
import numpy.typing as npt
import torch

from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.evaluation.faces import UNLABELLED, LabelledFaces
from faceattr_udf.training.losses import age_loss, class_loss

_GRID = np.exp(np.linspace(np.log(0.4), np.log(2.5), 64))


def temperatures(logits: dict[str, npt.NDArray[np.float32]], faces: LabelledFaces) -> dict[str, float]:
    """Chooses the temperature with the highest likelihood of the validation labels.

    Args:
        logits: Attribute -> float32 (n, classes).
        faces: Their labels.

    Returns:
        Attribute -> temperature; 1 where nothing is labelled.
    """
    chosen = {}
    age_range = torch.from_numpy(faces.age_range)
    # An exact age is a range of one year: its likelihood needs no assumed spread.
    exact = age_range[:, 0] == age_range[:, 1]
    widened = torch.where(exact[:, None], age_range + torch.tensor([-1e-3, 1e-3]), age_range)
    widened[age_range[:, 0] == UNLABELLED] = UNLABELLED
    for attribute, values in logits.items():
        tensor = torch.from_numpy(values)
        if attribute == "age":
            losses = [float(age_loss(tensor / t, widened, sigma=1.0, regression=0.0)) for t in _GRID]
            labelled = bool((age_range[:, 0] != UNLABELLED).any())
        else:
            labels = torch.from_numpy(faces.labels[attribute])
            losses = [float(class_loss(tensor / t, labels, smoothing=0.0)) for t in _GRID]
            labelled = attribute in CLASSES and bool((labels != UNLABELLED).any())
        chosen[attribute] = round(float(_GRID[int(np.argmin(losses))]), 4) if labelled else 1.0
    return chosen
