from pathlib import Path

import numpy as np
import pytest
from face_sets import labeled_faces

from faceattr_udf.errors import WeightsError
from faceattr_udf.labels import NUM_CLASSES
from faceattr_udf.training.distillation import merge_soft_labels, predict_soft_labels
from faceattr_udf.training.export.record import PACKAGE_WEIGHTS
from faceattr_udf.weights import is_shipped

DEFAULT = PACKAGE_WEIGHTS / "attributes_default.json"


def _crops(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 128, 128, 3), dtype=np.uint8)


def test_soft_labels_are_the_mean_of_the_teachers() -> None:
    faces = labeled_faces(["a"] * 3, [(30, 30)] * 3, crops=_crops(3))
    one, two = (predict_soft_labels([DEFAULT] * count, lambda _: faces) for count in (1, 2))
    assert {name: values.shape for name, values in one.items()} == {
        name: (3, size) for name, size in NUM_CLASSES.items()
    }
    for name, values in one.items():
        np.testing.assert_allclose(values.astype(float).sum(axis=1), 1.0, atol=0.01)
        np.testing.assert_allclose(values, two[name], atol=2e-3)


def test_unlabeled_teachers_fill_missing_labels() -> None:
    faces = labeled_faces(["a"] * 3, [(30, 30), (-1, -1), (20, 40)], gender=[1, 0, -1])
    labeled = {name: np.full((3, size), 0.25, np.float16) for name, size in NUM_CLASSES.items()}
    unlabeled = {name: np.full((3, size), 0.75, np.float16) for name, size in NUM_CLASSES.items()}
    merged = merge_soft_labels(labeled, unlabeled, faces)
    assert {name: values[:, 0].tolist() for name, values in merged.items()} == {
        "age": [0.25, 0.75, 0.25], "gender": [0.25, 0.25, 0.75], "ethnicity": [0.75] * 3, "emotion": [0.75] * 3,
    }  # fmt: skip
    assert {name: (values.shape, values.dtype) for name, values in merged.items()} == {
        name: (values.shape, values.dtype) for name, values in labeled.items()
    }


@pytest.mark.skipif(
    not is_shipped("attributes_separate_grey"), reason="needs the weights of conf/train/separate_grey.toml"
)
def test_teacher_without_every_attribute_is_rejected() -> None:
    faces = labeled_faces(["a"], [(30, 30)], crops=_crops(1))
    with pytest.raises(WeightsError, match="does not predict gender"):
        predict_soft_labels([PACKAGE_WEIGHTS / "attributes_separate_grey.json"], lambda _: faces)


def test_missing_teacher_is_named(tmp_path: Path) -> None:
    faces = labeled_faces(["a"], [(30, 30)], crops=_crops(1))
    with pytest.raises(WeightsError, match=r"none\.json is missing"):
        predict_soft_labels([tmp_path / "none.json"], lambda _: faces)
