"""Synthetic labeled faces and predictions, for tests that do not use pixels."""

import numpy as np

from faceattr_udf.datasets.labeled_faces import UNLABELED, LabeledFaces
from faceattr_udf.labels import CLASSES

NO_AGE = (float(UNLABELED), float(UNLABELED))


def labeled_faces(
    sources: list[str],
    ages: list[tuple[float, float]],
    unreadable: tuple[str, ...] = (),
    crops: np.ndarray | None = None,
    **labels: list[int],
) -> LabeledFaces:
    count = len(sources)
    unlabeled = [UNLABELED] * count
    return LabeledFaces(
        image_id=np.array([str(k) for k in range(count)], dtype=np.str_),
        crops=np.zeros((count, 8, 8, 3), np.uint8) if crops is None else crops,
        detected=np.ones(count, bool),
        source=np.array(sources, dtype=np.str_),
        age_range=np.array(ages, dtype=np.float32).reshape(-1, 2),
        labels={name: np.array(labels.get(name, unlabeled), dtype=np.int64) for name in CLASSES},
        identity=np.array(labels.get("identity", unlabeled), dtype=np.int64),
        unknown={name: np.zeros(count, bool) for name in CLASSES},
        unknown_labels={name: {} for name in CLASSES},
        face_px=np.full(count, 100.0, np.float32),
        unreadable=unreadable,
    )


def certain(ages: list[int], **classes: list[int]) -> dict[str, np.ndarray]:
    """Returns probabilities of 1 for these ages and classes; for the first class of attributes that are not given."""
    zeros = [0] * len(ages)
    given = {name: np.eye(len(labels), dtype=np.float32)[classes.get(name, zeros)] for name, labels in CLASSES.items()}
    return {"age": np.eye(101, dtype=np.float32)[ages], **given}
