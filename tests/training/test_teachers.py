from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from face_sets import labelled_faces

from faceattr_udf.attributes.labels import BINS
from faceattr_udf.attributes.predictor import GraphPredictor
from faceattr_udf.errors import WeightsError
from faceattr_udf.training.export import PACKAGE_WEIGHTS
from faceattr_udf.training.teachers import Teachers, soft_labels, where_unlabelled
from faceattr_udf.weights import is_shipped, load_record

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


def test_others_speak_where_a_face_has_no_label() -> None:
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


CPU = torch.device("cpu")


def test_a_teacher_of_views_says_what_it_is_served_for() -> None:
    predictor = GraphPredictor("attributes_default")
    side, random = predictor.record.input_size, np.random.default_rng(0)
    # A symmetric face is its own mirror image, of which a teacher sees one only.
    half = cv2.resize(random.integers(0, 256, (6, 4, 3), dtype=np.uint8), (side // 2, side))
    face = np.concatenate([half, half[:, ::-1]], axis=1)
    views = torch.from_numpy(face).permute(2, 0, 1)[None].float()
    expected = predictor.predict(face[None])
    said = Teachers([DEFAULT, DEFAULT], predictor.record.margin, CPU)(views)
    assert set(said) == set(BINS)
    for name, values in said.items():
        assert not values.requires_grad
        np.testing.assert_allclose(values.sum(dim=1), 1.0, atol=1e-3)
        np.testing.assert_allclose(values, expected[name], atol=0.1)  # bfloat16 here, 8 bits there


def test_a_teacher_sees_small_views_at_its_own_size() -> None:
    margin = load_record("attributes_default").margin
    views = torch.zeros(2, 3, 64, 64)
    said = Teachers([DEFAULT], margin, CPU)(views)
    assert {name: tuple(values.shape) for name, values in said.items()} == {n: (2, size) for n, size in BINS.items()}


def test_a_teacher_of_other_cuts_cannot_see_the_views() -> None:
    with pytest.raises(WeightsError, match=r"sees other cuts than its pupil; set train\.teachers_see = 'faces'"):
        Teachers([DEFAULT], 0.9, CPU)
