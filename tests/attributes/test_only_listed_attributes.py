"""Attributes that the configuration does not list are not computed, on any backend and by any model."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.attributes.predictor import EMBEDDING, NetworkPredictor, load_predictor
from faceattr_udf.attributes.preprocess import preprocess
from faceattr_udf.config import AttributesConfig, Config
from faceattr_udf.inference.openvino_backend import OpenVinoModel
from faceattr_udf.inference.torch_backend import TorchModel
from faceattr_udf.labels import ATTRIBUTES
from faceattr_udf.weights import load_record

PIXELS = np.random.default_rng(7).integers(0, 256, (5, 160, 160, 3), dtype=np.uint8)
SUBSETS = [("age",), ("gender",), ("ethnicity",), ("emotion",), ("age", "emotion"), ("age", "gender", "ethnicity")]


@pytest.fixture(scope="module")
def everything() -> dict[str, np.ndarray]:
    return load_predictor(AttributesConfig()).predict(PIXELS)


@pytest.mark.parametrize("listed", SUBSETS)
def test_network_returns_only_listed_attributes(listed: Sequence[str], everything: dict[str, np.ndarray]) -> None:
    predictor = load_predictor(AttributesConfig(predict=tuple(listed)))  # type: ignore[arg-type]
    found = predictor.predict(PIXELS)
    assert tuple(found) == tuple(listed)
    for name in listed:
        np.testing.assert_allclose(found[name], everything[name], atol=1e-5)
    assert {name: len(values) for name, values in predictor.predict(PIXELS[:0]).items()} == dict.fromkeys(listed, 0)


def _layers(model: OpenVinoModel) -> list[int]:
    """Returns how many layers each compiled graph of a model runs."""
    requests = [request for request in (model._request, model._static_request) if request is not None]
    return [len(request.get_compiled_model().get_runtime_model().get_ops()) for request in requests]


def test_compiled_graph_lacks_what_only_other_attributes_need() -> None:
    record = load_record("attributes_default")
    inputs = preprocess(record, PIXELS)
    whole = OpenVinoModel("attributes_default")
    for position, name in enumerate(ATTRIBUTES):
        cut = OpenVinoModel("attributes_default", outputs=[position])
        assert cut.output_shapes == [whole.output_shapes[position]]
        assert len(cut(*inputs)) == 1
        assert len(_layers(cut)) == len(_layers(whole))
        assert all(few < many for few, many in zip(_layers(cut), _layers(whole), strict=True)), name
    # The branch that only emotion needs is a third of the network.
    assert sum(_layers(OpenVinoModel("attributes_default", outputs=[0, 1, 2]))) < 0.7 * sum(_layers(whole))


def test_without_attributes_no_network_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = load_predictor(AttributesConfig(predict=()))
    monkeypatch.setattr(OpenVinoModel, "__call__", lambda *_: pytest.fail("the network ran"))
    assert predictor.predict(PIXELS) == {}


def test_embedding_is_computed_only_if_it_is_stored() -> None:
    assert EMBEDDING not in load_predictor(AttributesConfig(model="multitask_facenet")).predict(
        _faces("multitask_facenet")
    )
    config = AttributesConfig(model="multitask_facenet", predict=("gender",))
    assert list(load_predictor(config, embedding=True).predict(_faces("multitask_facenet"))) == ["gender", EMBEDDING]


def _faces(model: str) -> np.ndarray:
    size = load_record(f"attributes_{model}").input_size
    return np.random.default_rng(8).integers(0, 256, (2, size, size, 3), dtype=np.uint8)


def test_svms_of_other_attributes_are_not_loaded() -> None:
    config = AttributesConfig(model="embedding_svm", predict=("gender",))
    whole, listed = load_predictor(AttributesConfig(model="embedding_svm")), load_predictor(config)
    crops = np.random.default_rng(8).integers(0, 256, (2, *[listed.record.input_size] * 2, 3), dtype=np.uint8)
    found = listed.predict(crops)
    assert list(found) == ["gender"]
    np.testing.assert_array_equal(found["gender"], whole.predict(crops)["gender"])


@pytest.mark.parametrize("name", ["attributes_default", "attributes_separate_grey"])
def test_torch_network_lacks_the_heads_of_other_attributes(name: str) -> None:
    record = load_record(name)
    position = list(record.classes).index("ethnicity")
    crops = np.random.default_rng(9).integers(0, 256, (2, *[record.input_size] * 2, 3), dtype=np.uint8)
    inputs = preprocess(record, crops)
    whole, cut = TorchModel(name, device="cpu"), TorchModel(name, device="cpu", outputs=[position])
    (only,) = cut(*inputs)
    np.testing.assert_allclose(only, whole(*inputs)[position], atol=1e-3)
    heads = [set(module) for module in cut._module.modules() if isinstance(module, torch.nn.ModuleDict)]
    assert all(names <= {"ethnicity"} for names in heads)
    assert {"ethnicity"} in heads


@pytest.mark.parametrize("listed", [("gender",), ("age", "ethnicity")])
def test_faces_have_only_listed_attributes(listed: Sequence[str]) -> None:
    config = Config.load(None, [f"attributes.predict={list(listed)}".replace("'", '"')])
    analyzer = FaceAnalyzer.from_config(config)
    assert isinstance(analyzer._predictor, NetworkPredictor)
    assert list(analyzer._predictor.predict(PIXELS)) == list(listed)
