"""Labelled faces made by hand, for what counts labels and never looks at pixels."""

import numpy as np

from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.datasets.labelled_faces import UNLABELLED, LabelledFaces

NO_AGE = (float(UNLABELLED), float(UNLABELLED))


def labelled_faces(
    sources: list[str],
    ages: list[tuple[float, float]],
    unreadable: tuple[str, ...] = (),
    crops: np.ndarray | None = None,
    **labels: list[int],
) -> LabelledFaces:
    count = len(sources)
    unlabelled = [UNLABELLED] * count
    return LabelledFaces(
        crops=np.zeros((count, 8, 8, 3), np.uint8) if crops is None else crops,
        detected=np.ones(count, bool),
        source=np.array(sources, dtype=np.str_),
        age_range=np.array(ages, dtype=np.float32).reshape(-1, 2),
        labels={name: np.array(labels.get(name, unlabelled), dtype=np.int64) for name in CLASSES},
        identity=np.array(labels.get("identity", unlabelled), dtype=np.int64),
        unknown={name: np.zeros(count, bool) for name in CLASSES},
        unknown_labels={name: {} for name in CLASSES},
        unreadable=unreadable,
    )


def certain(ages: list[int], **classes: list[int]) -> dict[str, np.ndarray]:
    """Probabilities of 1 for these ages and classes; of the first class where none is given."""
    zeros = [0] * len(ages)
    given = {name: np.eye(len(labels), dtype=np.float32)[classes.get(name, zeros)] for name, labels in CLASSES.items()}
    return {"age": np.eye(101, dtype=np.float32)[ages], **given}
