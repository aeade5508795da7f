"""Accuracy of the faces that the model answers."""

import numpy as np
from face_sets import NO_AGE, certain, labeled_faces

from faceattr_udf.evaluation.abstention import THRESHOLDS, abstention

NEVER_ABSTAIN = {"gender": 0.0, "ethnicity": 0.0, "emotion": 0.0}


def test_no_faces_have_no_curves() -> None:
    assert abstention(certain([]), labeled_faces([], []), NEVER_ABSTAIN) == {}


def test_single_certain_face_is_answered_at_every_threshold() -> None:
    faces = labeled_faces(["a"], [NO_AGE], gender=[0])
    scores = abstention(certain([30]), faces, NEVER_ABSTAIN)
    assert list(scores) == ["gender"]  # nothing else is labeled
    overall = scores["gender"]["overall"]
    assert overall == scores["gender"]["by_source"]["a"]
    assert (overall["n"], overall["answered"], overall["accuracy"]["value"]) == (1, 1.0, 1.0)
    assert overall["curve"] == [{"threshold": t, "coverage": 1.0, "accuracy": 1.0} for t in THRESHOLDS]


def test_only_confident_faces_are_answered() -> None:
    predicted = {"gender": np.array([[0.9, 0.1], [0.4, 0.6], [0.45, 0.55]], np.float32)}
    faces = labeled_faces(["a", "a", "b"], [NO_AGE] * 3, gender=[0, 0, 1])
    scores = abstention(predicted, faces, {**NEVER_ABSTAIN, "gender": 0.58})["gender"]
    assert scores["overall"]["answered"] == 0.66667
    assert scores["overall"]["accuracy"] == {"n": 2, "value": 0.5, "low": 0.09453, "high": 0.90547}
    curve = {point["threshold"]: point for point in scores["overall"]["curve"]}
    assert curve[0.5] == {"threshold": 0.5, "coverage": 1.0, "accuracy": 0.66667}
    assert curve[0.8] == {"threshold": 0.8, "coverage": 0.33333, "accuracy": 1.0}
    assert curve[0.95] == {"threshold": 0.95, "coverage": 0.0, "accuracy": None}
    assert scores["by_source"]["a"]["answered"] == 1.0
    assert scores["by_source"]["b"]["answered"] == 0.0
    assert scores["by_source"]["b"]["accuracy"] is None


def test_answer_among_the_classes_of_a_coarse_label_is_right() -> None:
    faces = labeled_faces(["a"] * 3, [NO_AGE] * 3, ethnicity=[6, 6, 6])
    scores = abstention(certain([0] * 3, ethnicity=[4, 5, 0]), faces, NEVER_ABSTAIN)
    assert scores["ethnicity"]["overall"]["accuracy"]["value"] == 0.66667
