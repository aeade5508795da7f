"""Distillation: what earlier networks say about the training faces, as targets beside the labels."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.labels import BINS
from faceattr_udf.attributes.predictor import GraphPredictor
from faceattr_udf.errors import WeightsError
from faceattr_udf.evaluation.faces import LabelledFaces
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.training.augment import center_window
from faceattr_udf.weights import WeightsRecord

SoftLabels = dict[str, npt.NDArray[np.float16]]


def soft_labels(teachers: Sequence[Path], faces_for: Callable[[WeightsRecord], LabelledFaces]) -> SoftLabels:
    """The mean of the teachers' probabilities for every training face.

    Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network"; a network may be its own pupil
    (Furlanello et al. 2018, "Born-Again Neural Networks"), which helps most where labels are noisy or missing.

    Args:
        teachers: Records, FOLDER/NAME.json; at least one.
        faces_for: Gives the training faces as a teacher's record wants them: cut with `augment.source_margin` of its
            margin, grey where it is. Teachers and pupil may see different cuts.

    Returns:
        Attribute -> float16 (n, classes).

    Raises:
        WeightsError: A teacher's files are missing, or it does not predict every attribute.
    """
    labels: dict[str, npt.NDArray[np.float32]] = {}
    for record in teachers:
        teacher = GraphPredictor(record.stem, record.parent, threads=2)
        missing = [name for name in BINS if name not in teacher.record.classes]
        if missing:
            msg = f"train.teachers: {record} does not predict {', '.join(missing)}; name networks of every attribute"
            raise WeightsError(msg)
        faces = faces_for(teacher.record)
        said = predict_in_batches(teacher, faces, view=partial(center_window, size=teacher.record.input_size))
        for name in BINS:
            labels[name] = labels[name] + said[name] if name in labels else said[name]
    return {name: (values / len(teachers)).astype(np.float16) for name, values in labels.items()}
