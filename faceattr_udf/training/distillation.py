"""Distillation: what earlier networks say about the training faces, as targets beside the labels."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.labels import BINS
from faceattr_udf.attributes.predictor import GraphPredictor
from faceattr_udf.datasets.labelled_faces import LabelledFaces
from faceattr_udf.errors import WeightsError
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.training.data.augment import center_window
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
    said = []
    for record in teachers:
        teacher = GraphPredictor(record.stem, record.parent, threads=2)
        _check(teacher.record, record)
        faces = faces_for(teacher.record)
        said.append(predict_in_batches(teacher, faces, view=partial(center_window, size=teacher.record.input_size)))
    return {name: np.mean([one[name] for one in said], axis=0).astype(np.float16) for name in BINS}


def where_unlabelled(said: SoftLabels, instead: SoftLabels, faces: LabelledFaces) -> SoftLabels:
    """What some teachers say of the attributes that a face is labelled for, and others of those that it is not.

    Teachers that learned from mixed faces are the best judges of faces like those that they had labels for, and say
    anything of the others; see `sampling.partners`.

    Args:
        said: Of the labelled ones, of `soft_labels`.
        instead: Of the unlabelled ones.
        faces: That both were asked about.
    """
    return {name: np.where(faces.labelled(name)[:, None], values, instead[name]) for name, values in said.items()}


def _check(record: WeightsRecord, path: Path) -> None:
    missing = [name for name in BINS if name not in record.classes]
    if missing:
        msg = f"train.teachers: {path} does not predict {', '.join(missing)}; name networks of every attribute"
        raise WeightsError(msg)
