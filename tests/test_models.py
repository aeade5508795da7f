"""Tests that configuration, prediction, training and the shipped weights agree with the list of models."""

from pathlib import Path
from typing import get_args

import pytest

from faceattr_udf.attributes.predictor import model_record
from faceattr_udf.config import AttributesConfig
from faceattr_udf.errors import WeightsError
from faceattr_udf.models import MODELS, ModelName, ModelSpec
from faceattr_udf.training.registry import TRAINING_SPECS, spec_for_architecture
from faceattr_udf.training.settings import TrainingSettings
from faceattr_udf.weights import is_shipped, load_record

CONF = Path(__file__).parents[1] / "conf" / "train"


def test_every_name_has_a_spec() -> None:
    assert tuple(MODELS) == get_args(ModelName)
    assert all(spec.name == name for name, spec in MODELS.items())


def test_first_model_is_the_default() -> None:
    assert AttributesConfig().model == TrainingSettings().model == next(iter(MODELS))


@pytest.mark.parametrize("spec", MODELS.values(), ids=lambda spec: spec.name)
def test_spec_matches_the_shipped_record(spec: ModelSpec) -> None:
    assert is_shipped(spec.weights)
    assert load_record(spec.weights).architecture == spec.architecture
    assert model_record(AttributesConfig(model=spec.name)).name == spec.weights


@pytest.mark.parametrize("spec", MODELS.values(), ids=lambda spec: spec.name)
def test_training_config_makes_the_weights(spec: ModelSpec) -> None:
    settings = TrainingSettings.load(CONF / f"{spec.name}.toml")
    assert (settings.model, settings.name) == (spec.name, spec.weights)


def test_every_network_can_be_trained_and_exported() -> None:
    assert list(TRAINING_SPECS) == [spec.name for spec in MODELS.values() if spec.kind == "network"]
    for name, training_spec in TRAINING_SPECS.items():
        assert isinstance(training_spec.build, type)
        assert f"{training_spec.build.__module__}.{training_spec.build.__name__}" == MODELS[name].architecture
        assert spec_for_architecture(MODELS[name].architecture) is training_spec


def test_svms_cannot_be_exported_as_a_graph() -> None:
    with pytest.raises(WeightsError, match="cannot be exported"):
        spec_for_architecture(MODELS["embedding_svm"].architecture)
