from pathlib import Path

import numpy as np
import pytest
from face_sets import labelled_faces

from faceattr_udf.attributes.labels import BINS
from faceattr_udf.errors import WeightsError
from faceattr_udf.training.distillation import soft_labels, where_unlabelled
from faceattr_udf.training.export.__main__ import PACKAGE_WEIGHTS
from faceattr_udf.weights import is_shipped

DEFAULT = PACKAGE_WEIGHTS / "attributes_default.json"


def _crops(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 128, 128, 3), dtype=np.uint8)


def test_two_teachers_that_agree_say_what_one_says() -> None:
    faces = labelled_faces(["a"] * 3, [(30, 30)] * 3, crops=_crops(3))
    one, two = soft_labels([DEFAULT], lambda _: faces), soft_labels([DEFAULT, DEFAULT], lambda _: faces)
    assert {name: values.shape for name, values in one.items()} == {name: (3, size) for name, size in BINS.items()}
    for name, values in one.items():
        np.testing.assert_allclose(values.astype(float).sum(axis=1), 1.0, atol=0.01)
        np.testing.assert_allclose(values, two[name], atol=2e-3)


def test_unlabelled_teachers_fill_missing_labels() -> None:
    faces = labelled_faces(["a"] * 3, [(30, 30), (-1, -1), (20, 40)], gender=[1, 0, -1])
    said = {name: np.full((3, size), 0.25, np.float16) for name, size in BINS.items()}
    instead = {name: np.full((3, size), 0.75, np.float16) for name, size in BINS.items()}
    joined = where_unlabelled(said, instead, faces)
    assert {name: values[:, 0].tolist() for name, values in joined.items()} == {
        "age": [0.25, 0.75, 0.25], "gender": [0.25, 0.25, 0.75], "ethnicity": [0.75] * 3, "emotion": [0.75] * 3,
    }  # fmt: skip
    assert {name: (values.shape, values.dtype) for name, values in joined.items()} == {
        name: (values.shape, values.dtype) for name, values in said.items()
    }


@pytest.mark.skipif(
    not is_shipped("attributes_separate_grey"), reason="conf/train/separate_grey.toml makes its weights"
)
def test_a_teacher_without_every_attribute_is_refused() -> None:
    faces = labelled_faces(["a"], [(30, 30)], crops=_crops(1))
    with pytest.raises(WeightsError, match="does not predict gender"):
        soft_labels([PACKAGE_WEIGHTS / "attributes_separate_grey.json"], lambda _: faces)


def test_a_missing_teacher_is_named(tmp_path: Path) -> None:
    faces = labelled_faces(["a"], [(30, 30)], crops=_crops(1))
    with pytest.raises(WeightsError, match=r"none\.json is missing"):
        soft_labels([tmp_path / "none.json"], lambda _: faces)
