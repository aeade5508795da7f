"""Sections and tables of the model card, from reports of synthetic faces."""

from typing import Any

import pytest
from face_sets import certain, labeled_faces

from faceattr_udf.evaluation.abstention import abstention
from faceattr_udf.evaluation.model_card import model_card
from faceattr_udf.evaluation.report import report
from faceattr_udf.labels import ETHNICITIES
from faceattr_udf.training.settings import TrainingSettings
from faceattr_udf.weights import WeightsRecord, load_record

WOMEN, MEN = 40, 60
MIN_CONFIDENCE = {"gender": 0.6, "ethnicity": 0.5, "emotion": 0.4}
# Of Mitchell et al. 2019, "Model Cards for Model Reporting".
SECTIONS = (
    "Model details",
    "Intended use",
    "Training data",
    "Evaluation data",
    "Metrics",
    "Quantitative analyses",
    "Limitations",
    "Ethical considerations",
)


@pytest.fixture(scope="module")
def scores() -> dict[str, Any]:
    """Women and men of 32, half of the women misclassified, and one child, too few to compare."""
    gender = [0] * WOMEN + [1] * MEN + [0]
    predicted = [k % 2 for k in range(WOMEN)] + [1] * MEN + [0]
    faces = labeled_faces(
        ["a"] * (WOMEN + MEN) + ["b"], [(32, 32)] * (WOMEN + MEN) + [(5, 5)], gender=gender, ethnicity=[1] * 101
    )
    return report(certain([34] * (WOMEN + MEN) + [5], gender=predicted, ethnicity=[1] * 101), faces)


@pytest.fixture(scope="module")
def both_worlds() -> dict[str, Any]:
    """Everything that `faceattr evaluate` measures: FairFace, also with small faces, and ExpW as an unseen source."""
    faces = labeled_faces(["fairface"] * 40, [(20, 29)] * 20 + [(3, 9)] * 20, gender=[0] * 40, ethnicity=[4] * 40)
    predicted = certain([25] * 40, gender=[0] * 30 + [1] * 10, ethnicity=[5] * 40)
    strangers = labeled_faces(["expw"] * 4, [(-1, -1)] * 4, emotion=[0, 1, 2, 3])
    guessed = certain([0] * 4, emotion=[0, 1, 0, 0])
    return {
        "files": {"faces": ["a.parquet", "b.parquet"], "unseen": ["c.parquet"]},
        **report(predicted, faces),
        "abstention": abstention(predicted, faces, MIN_CONFIDENCE),
        "unseen": {**report(guessed, strangers), "abstention": abstention(guessed, strangers, MIN_CONFIDENCE)},
        "small_faces": {"face_px": 32, "by_source": report(certain([25] * 40, gender=[1] * 40), faces)["by_source"]},
    }


def _record(**update: object) -> WeightsRecord:
    return load_record("attributes_default").model_copy(update=update)


def _section(card: str, title: str) -> str:
    return card.partition(f"### {title}\n")[2].partition("\n##")[0]


def test_card_of_no_faces_has_all_sections() -> None:
    card = model_card(_record(), report(certain([]), labeled_faces([], [])))
    assert all(f"\n## {title}\n" in card for title in SECTIONS)
    assert "### Abstention" not in card
    assert "nseen sources" not in card.partition("## Limitations")[0]


def test_card_has_version_command_metrics_and_worst_groups(scores: dict[str, Any]) -> None:
    card = model_card(load_record("attributes_default"), scores)
    assert f"version {load_record('attributes_default').version}" in card
    assert "faceattr evaluate" in card
    assert "| gender | combined | 30-39, female, black (40) | 50.0 % | 30-39, male, black | 100.0 % | 50.0 % |" in card
    assert "- **Gender** is worst for the group 30-39, female, black: accuracy 50.0 %" in card
    assert "research use" in card
    for title in SECTIONS:
        assert f"\n## {title}\n" in card
    assert all(len(line) < 400 for line in card.splitlines())


def test_card_describes_runs_of_current_settings(scores: dict[str, Any]) -> None:
    record = load_record("attributes_default")
    settings = {"branch": "emotion", "optim": {"epochs": 1.0}, "distillation": {"teachers": ["a"], "weight": 0.25}}
    dumped = TrainingSettings.model_validate(settings).model_dump(mode="json")
    training = {**record.training, "settings": dumped, "initial": record.training}
    card = model_card(record.model_copy(update={"training": training}), scores)
    assert "4. 2 epochs from attributes_default.safetensors, learning rate 0.0005, seed 2, 50 % of each loss" in card
    assert "1 epoch of the emotion branch from random weights, learning rate 0.001, seed 0, 25 % of each loss" in card


def test_card_names_the_files_that_were_measured(both_worlds: dict[str, Any]) -> None:
    command = "faceattr evaluate --faces a.parquet --faces b.parquet --unseen c.parquet --json scores.json --card"
    card = model_card(_record(), both_worlds)
    assert f"    {command} MODEL_CARD.md\n" in card
    assert "44 test faces" in card


def test_card_shows_unseen_sources_beside_the_others(both_worlds: dict[str, Any]) -> None:
    card = model_card(_record(), both_worlds)
    table = _section(card, "Sources like those in training, and unseen sources")
    assert "|  | sources like those in training | unseen sources |" in table
    assert "| faces | 40 | 4 |" in table
    assert "| gender: accuracy | 75.0 % (59.8 to 85.8) |  |" in table
    assert "| emotion: accuracy |  | 50.0 % (15.0 to 85.0) |" in table
    assert "| ExpW |  |  |  |  |  | 50.0 % (15.0 to 85.0) |" in _section(card, "By source: unseen sources")
    assert "- emotion: worst for ExpW (unseen), 0.500" in _section(card, "Expected calibration error by source")
    assert "| ExpW | unseen sources | 4 | 100.0 % |" in card


def test_card_compares_small_faces_with_the_originals(both_worlds: dict[str, Any]) -> None:
    table = _section(model_card(_record(), both_worlds), "Small faces")
    assert "| FairFace | as they are | 100.0 % | 50.0 % (35.2 to 64.8) | 75.0 % (59.8 to 85.8) |" in table
    assert "| FairFace | 32 px | 100.0 % | 50.0 % (35.2 to 64.8) | 0.0 % (0.0 to 8.8) |" in table


def test_card_shows_answers_and_their_accuracy(both_worlds: dict[str, Any]) -> None:
    table = _section(model_card(_record(), both_worlds), "Abstention")
    assert "| gender | FairFace | 75.0 % | 0.6 | 100.0 % | 75.0 % (59.8 to 85.8) |" in table
    assert "| emotion | ExpW (unseen) | 50.0 % | 0.4 | 100.0 % | 50.0 % (15.0 to 85.0) |" in table
    assert "| emotion | unseen sources | 50.0 % (100.0 %) |" in table


def test_card_lists_groups_of_a_balanced_source(both_worlds: dict[str, Any]) -> None:
    table = _section(model_card(_record(), both_worlds), "Whom it fails: FairFace")
    child = "| 0-9 | 20 | 50.0 % (29.9 to 70.1) | 0.0 % (0.0 to 16.1) |"
    adult = "| 10+, female, middle_eastern | 20 | 100.0 % (83.9 to 100.0) | 0.0 % (0.0 to 16.1) |"
    assert 0 < table.index(child) < table.index(adult)
    assert "| 0-9, female, middle_eastern | 20 | 50.0 % (29.9 to 70.1) |" in table


def test_card_tells_sources_that_the_record_does_not_name(both_worlds: dict[str, Any]) -> None:
    named = model_card(_record(training_data=["FairFace (CC BY 4.0)", "FERPlus (research use)"]), both_worlds)
    training = named.partition("## Evaluation data")[0]
    assert "| FairFace | photographs from the web" in training
    assert "| FERPlus | originals of FER2013" in training
    assert "does not name these sources" not in named
    unnamed = model_card(_record(training_data=["UTKFace (research use)"]), both_worlds)
    assert "The record of the weights does not name these sources as training data: FairFace." in unnamed


def test_card_tells_weights_with_one_class_for_others(both_worlds: dict[str, Any]) -> None:
    classes = load_record("attributes_default").classes
    six = model_card(_record(classes={**classes, "ethnicity": list(ETHNICITIES)}), both_worlds)
    five = model_card(_record(classes={**classes, "ethnicity": [*ETHNICITIES[:4], "others"]}), both_worlds)
    assert "middle_eastern, latino_hispanic)" in six
    assert "cannot tell them apart" in five
    assert "cannot tell them apart" not in six
