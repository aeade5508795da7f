"""Distillation: what earlier networks say about the training faces, as targets beside the labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.labels import BINS
from faceattr_udf.attributes.predictor import GraphPredictor
from faceattr_udf.errors import WeightsError
from faceattr_udf.evaluation.faces import LabelledFaces
from faceattr_udf.training.augment import center_window

SoftLabels = dict[str, npt.NDArray[np.float16]]

_BATCH = 256


def soft_labels(teachers: Sequence[Path], faces: LabelledFaces) -> SoftLabels:
    """The mean of the teachers' probabilities for every training face.

    Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network"; a network may be its own pupil
    (Furlanello et al. 2018, "Born-Again Neural Networks"), which helps most where labels are noisy or missing.

    Args:
        teachers: Records, FOLDER/NAME.json, of networks with the margin that the faces were cut with.
        faces: Training faces, cut with `augment.source_margin`.

    Returns:
        Attribute -> float16 (n, classes).

    Raises:
        WeightsError: A teacher's files are missing, or it does not predict every attribute.
    """
    labels = {name: np.zeros((len(faces), size), dtype=np.float16) for name, size in BINS.items()}
    for record in teachers:
        teacher = GraphPredictor(record.stem, record.parent, threads=2)
        missing = [name for name in BINS if name not in teacher.record.classes]
        if missing:
            msg = f"train.teachers: {record} does not predict {', '.join(missing)}; name networks of every attribute"
            raise WeightsError(msg)
        for start in range(0, len(faces), _BATCH):
            rows = slice(start, start + _BATCH)
            crops = center_window(np.asarray(faces.crops[rows]), teacher.record.input_size)
            for name, values in teacher.predict(crops).items():
                if name in labels:
                    labels[name][rows] += (values / len(teachers)).astype(np.float16)
    return labels
