"""Knowledge distillation: soft labels of the training faces, predicted by teacher networks."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.predictor import NetworkPredictor
from faceattr_udf.datasets.labeled_faces import LabeledFaces
from faceattr_udf.errors import WeightsError
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.labels import NUM_CLASSES
from faceattr_udf.training.data.augment import center_crop
from faceattr_udf.weights import WeightsRecord

SoftLabels = dict[str, npt.NDArray[np.float16]]
"""Attribute -> probabilities, float16 (n, classes)."""


def predict_soft_labels(teachers: Sequence[Path], faces_for: Callable[[WeightsRecord], LabeledFaces]) -> SoftLabels:
    """Returns the mean of the teachers' probabilities for every training face.

    Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network"; a network may be its own student
    (Furlanello et al. 2018, "Born-Again Neural Networks"), which helps most where labels are noisy or missing.

    Args:
        teachers: Records, FOLDER/NAME.json; at least one.
        faces_for: Returns the training faces as a teacher's record asks for: cropped with `augment.training_margin` of
            its margin, in grayscale where it asks for that. Teachers and student may see different crops.

    Raises:
        WeightsError: A teacher's files are missing, or it does not predict every attribute.
    """
    predictions = []
    for path in teachers:
        teacher = NetworkPredictor(path.stem, path.parent, threads=2)
        _check_attributes(teacher.record, path)
        faces = faces_for(teacher.record)
        transform = partial(center_crop, size=teacher.record.input_size)
        predictions.append(predict_in_batches(teacher, faces, transform=transform))
    return {name: np.mean([one[name] for one in predictions], axis=0).astype(np.float16) for name in NUM_CLASSES}


def merge_soft_labels(labeled: SoftLabels, unlabeled: SoftLabels, faces: LabeledFaces) -> SoftLabels:
    """Takes `labeled` for the attributes that a face has a label for, and `unlabeled` for the others.

    Teachers that were trained with mixup are the best for faces like those that they had labels for, and unreliable for
    others; see `sampling.mixup_partners`.

    Args:
        labeled: Soft labels of the teachers for labeled attributes.
        unlabeled: Soft labels of the teachers for unlabeled attributes.
        faces: The faces of both.
    """
    return {name: np.where(faces.labeled(name)[:, None], values, unlabeled[name]) for name, values in labeled.items()}


def _check_attributes(record: WeightsRecord, path: Path) -> None:
    missing = [name for name in NUM_CLASSES if name not in record.classes]
    if missing:
        msg = (
            f"train.distillation.teachers: {path} does not predict {', '.join(missing)}; "
            "name networks that predict every attribute"
        )
        raise WeightsError(msg)
