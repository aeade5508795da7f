"""Tests that models with earlier classes give probabilities of the product's classes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.attributes.predictor import NetworkPredictor
from faceattr_udf.attributes.vocabulary import ClassConverter
from faceattr_udf.errors import WeightsError
from faceattr_udf.labels import CLASSES, COARSE_LABELS, NUM_CLASSES
from faceattr_udf.training.export.record import PACKAGE_WEIGHTS
from faceattr_udf.weights import WeightsRecord, load_record

DEFAULT = load_record("attributes_default")
EARLIER = ("white", "black", "asian", "indian", "others")
EQUAL = {name: list(classes) for name, classes in CLASSES.items()}


def record(**classes: list[str]) -> WeightsRecord:
    return DEFAULT.model_copy(update={"classes": classes})


def error_of(**classes: list[str]) -> str:
    with pytest.raises(WeightsError) as caught:
        ClassConverter(record(**classes))
    return str(caught.value)


def test_equal_classes_are_returned_as_they_are() -> None:
    outputs: dict[str, Any] = {"gender": np.zeros((2, 2), np.float32), "embedding": np.zeros((2, 9), np.float32)}
    assert ClassConverter(record(**EQUAL))(outputs) is outputs


def test_coarse_label_is_shared_among_its_classes() -> None:
    convert = ClassConverter(record(**EQUAL | {"ethnicity": list(EARLIER)}))
    gender, embedding = np.array([[0.25, 0.75]], np.float32), np.ones((1, 3), np.float32)
    earlier = np.array([[0.1, 0.2, 0.15, 0.05, 0.5]], np.float32)
    outputs = convert({"gender": gender, "ethnicity": earlier, "embedding": embedding})
    np.testing.assert_allclose(outputs["ethnicity"], [[0.1, 0.2, 0.15, 0.05, 0.25, 0.25]], rtol=1e-6)
    assert outputs["ethnicity"].dtype == np.float32
    assert outputs["gender"] is gender
    assert outputs["embedding"] is embedding
    assert list(outputs) == ["gender", "ethnicity", "embedding"]


def test_no_faces_have_the_shape_of_the_classes() -> None:
    convert = ClassConverter(record(ethnicity=list(EARLIER)))
    assert convert({"ethnicity": np.zeros((0, 5), np.float32)})["ethnicity"].shape == (0, 6)


def test_classes_in_another_order_are_reordered() -> None:
    convert = ClassConverter(record(gender=["male", "female"]))
    assert convert({"gender": np.array([[0.25, 0.75]], np.float32)})["gender"].tolist() == [[0.75, 0.25]]


@given(data=st.data(), attribute=st.sampled_from(list(CLASSES)))
def test_converted_rows_still_sum_to_one(data: st.DataObject, attribute: str) -> None:
    classes, coarse = CLASSES[attribute], COARSE_LABELS[attribute]
    replaced = data.draw(st.sets(st.sampled_from(sorted(coarse)))) if coarse else set()
    left_out = {member for label in replaced for member in coarse[label] if data.draw(st.booleans())}
    labels = data.draw(st.permutations([name for name in (*classes, *sorted(replaced)) if name not in left_out]))
    weights = data.draw(
        st.lists(st.lists(st.floats(0.01, 1.0), min_size=len(labels), max_size=len(labels)), max_size=4)
    )
    rows = np.array(weights, np.float32).reshape(-1, len(labels))
    rows /= rows.sum(axis=1, keepdims=True)
    converted = ClassConverter(record(**{attribute: labels}))({attribute: rows})[attribute]
    assert converted.shape == (len(rows), len(classes))
    assert (converted >= 0).all()
    np.testing.assert_allclose(converted.sum(axis=1), 1.0, rtol=1e-5)
    for index, label in enumerate(labels):
        if label in classes and not replaced:
            np.testing.assert_array_equal(converted[:, classes.index(label)], rows[:, index])


def test_unknown_class_is_named() -> None:
    sentence = error_of(ethnicity=[*EARLIER, "martian"])
    assert sentence.startswith("weights attributes_default have the class 'martian' of ethnicity, expected only white,")
    assert "others; train the model again" in sentence


def test_missing_classes_are_named() -> None:
    sentence = error_of(ethnicity=list(EARLIER[1:-1]))
    assert "lack the classes white, middle_eastern, latino_hispanic of ethnicity; train the model again" in sentence
    assert "lack the classes male of gender" in error_of(gender=["female"])


def test_unknown_attributes_are_named() -> None:
    assert "predict height, expected some of age, gender" in error_of(height=["small", "large"])
    assert "predict nothing" in error_of()
    assert "predict emotion, gender, expected" in error_of(emotion=EQUAL["emotion"], gender=EQUAL["gender"])


@pytest.mark.parametrize("count", [0, 2])
def test_network_predicts_the_classes_of_the_product(count: int) -> None:
    predictor = NetworkPredictor("attributes_default")
    side = predictor.record.input_size
    outputs = predictor.predict(np.full((count, side, side, 3), 90, dtype=np.uint8))
    assert {name: values.shape for name, values in outputs.items()} == {
        name: (count, size) for name, size in NUM_CLASSES.items()
    }
    for values in outputs.values():
        np.testing.assert_allclose(values.sum(axis=1), 1.0, rtol=1e-3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for suffix in ("json", "xml", "bin"):
        shutil.copy(PACKAGE_WEIGHTS / f"attributes_default.{suffix}", tmp_path)
    return tmp_path


def rename_classes(folder: Path, **classes: list[str]) -> None:
    path = folder / "attributes_default.json"
    data = json.loads(path.read_text())
    data["classes"] |= classes
    path.write_text(json.dumps(data))


def test_graph_of_other_size_than_its_classes_is_refused(folder: Path) -> None:
    rename_classes(folder, gender=["female", "male", "male"])
    with pytest.raises(WeightsError, match=r"attributes_default\.xml do not match attributes_default\.json"):
        NetworkPredictor("attributes_default", folder)


def test_network_with_unknown_class_is_refused(folder: Path) -> None:
    rename_classes(folder, gender=["female", "none"])
    with pytest.raises(WeightsError, match="have the class 'none' of gender"):
        NetworkPredictor("attributes_default", folder)
