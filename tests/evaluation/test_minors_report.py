"""Who counts as a minor by labeled age, and the section of the model card."""

import numpy as np
import pytest
from face_sets import NO_AGE, certain, labeled_faces

from faceattr_udf.evaluation.minors import BANDS, minors
from faceattr_udf.evaluation.model_card import model_card
from faceattr_udf.evaluation.report import report
from faceattr_udf.weights import load_record


def test_without_faces_or_ages_there_is_nothing_to_measure() -> None:
    assert minors(certain([]), labeled_faces([], []), 18, 0.12) is None
    assert minors(certain([30]), labeled_faces(["a"], [NO_AGE]), 18, 0.12) is None
    assert minors({"gender": np.eye(2)}, labeled_faces(["a"] * 2, [(3, 3)] * 2), 18, 0.12) is None


def test_single_face_is_one_band_of_one_source() -> None:
    found = minors(certain([17]), labeled_faces(["a"], [(17, 17)]), 0, 0.12)
    assert found is not None
    assert (found["age"], found["probability"]) == (18, 0.12)
    assert found["overall"].keys() == {"16 to 17"}
    assert found["overall"]["16 to 17"]["value"] == 1.0
    assert found["by_source"] == {"a": found["overall"]}


def test_bands_are_of_labeled_ages_and_shares_of_predicted_ones() -> None:
    ages = [(12.9, 12.9), (3, 9), (13, 13), (17.5, 17.5), (18, 18), (24, 24), (25, 25), (10, 19), (20, 29), NO_AGE]
    # The last three are in no band: two ranges span several.
    predicted = certain([10, 30, 10, 18, 17, 30, 30, 5, 5, 5])
    found = minors(predicted, labeled_faces(["a"] * 10, ages), 18, 0.12)
    assert found is not None
    shares = {band: (row["n"], row["value"]) for band, row in found["overall"].items()}
    assert shares == {
        "under 13": (2, 0.5),
        "13 to 15": (1, 1.0),
        "16 to 17": (1, 0.0),
        "18 to 24": (2, 0.5),
        "25 and over": (1, 0.0),
    }
    assert tuple(shares) == tuple(BANDS)


def test_threshold_is_that_of_the_configuration() -> None:
    half = np.zeros((1, 101), np.float32)
    half[0, [10, 40]] = 0.2, 0.8
    faces = labeled_faces(["a"], [(40, 40)])
    for age, probability, expected in ((18, 0.12, 1.0), (18, 0.2, 0.0), (10, 0.12, 0.0), (11, 0.12, 1.0)):
        found = minors({"age": half}, faces, age, probability)
        assert found is not None
        assert found["overall"]["25 and over"]["value"] == pytest.approx(expected)
    assert found is not None
    assert found["overall"]["25 and over"]["at"]["0.1"] == 1.0
    assert found["overall"]["25 and over"]["at"]["0.2"] == 0.0


def test_card_says_who_is_protected_and_whom_it_costs() -> None:
    faces = labeled_faces(["utkface"] * 4, [(5, 5), (17, 17), (20, 20), (40, 40)])
    predicted = certain([5, 17, 17, 40])
    unseen = labeled_faces(["fgnet"] * 2, [(5, 5), (30, 30)])
    guessed = certain([30, 30])
    scores = {
        **report(predicted, faces),
        "minors": minors(predicted, faces, 0, 0.12),
        "unseen": {**report(guessed, unseen), "minors": minors(guessed, unseen, 0, 0.12)},
    }
    card = model_card(load_record("attributes_default"), scores)
    section = card.partition("### Minors: who is protected, and whom it costs\n")[2].partition("\n##")[0]
    assert "`minors.age = 18` and `minors.probability = 0.12`" in section
    assert "| UTKFace | 100.0 % (20.7 to 100.0), n = 1 |  | 100.0 % (20.7 to 100.0), n = 1 | 100.0 % " in section
    assert "| FG-NET (unseen) | 0.0 % (0.0 to 79.3), n = 1 |" in section
    assert "| 18 to 24 | sources like those in training | 100.0 % |" in section
    assert "### Minors" not in model_card(load_record("attributes_default"), report(predicted, faces))
