"""The report and the plots made from it."""

import json
from pathlib import Path

import numpy as np
import pytest
from face_sets import NO_AGE, certain, labeled_faces
from PIL import Image

from faceattr_udf.evaluation.plots import draw_all
from faceattr_udf.evaluation.report import by_group, grouping_of, label_of, report

WOMEN, MEN = 40, 60


@pytest.fixture(scope="module")
def scored() -> tuple[dict[str, np.ndarray], object, dict[str, object]]:
    """Women and men of 32, half of the women misclassified, and one child, too few to compare."""
    gender = [0] * WOMEN + [1] * MEN + [0]
    predicted = [k % 2 for k in range(WOMEN)] + [1] * MEN + [0]
    faces = labeled_faces(
        ["a"] * (WOMEN + MEN) + ["b"], [(32, 32)] * (WOMEN + MEN) + [(5, 5)], gender=gender, ethnicity=[1] * 101
    )
    probabilities = certain([34] * (WOMEN + MEN) + [5], gender=predicted, ethnicity=[1] * 101)
    return probabilities, faces, report(probabilities, faces)


def _row(scores: dict[str, object], age_group: str, gender: str, ethnicity: str) -> dict[str, object]:
    rows = scores["by_group"]
    assert isinstance(rows, list)
    key = {"age_group": age_group, "gender": gender, "ethnicity": ethnicity}
    (row,) = [row for row in rows if all(row[name] == value for name, value in key.items())]
    return row


def test_no_faces_have_no_groups() -> None:
    scores = report(certain([]), labeled_faces([], []))
    assert scores["by_source"] == {}
    assert scores["by_group"] == []
    assert scores["worst_group"] == {}
    assert scores["balanced_sources"] == {}


def test_each_source_is_scored_separately(scored: tuple) -> None:
    scores = scored[2]
    assert {source: row["n"] for source, row in scores["by_source"].items()} == {"a": 100, "b": 1}
    assert scores["by_source"]["b"]["age_mae"] == 0.0
    assert scores["overall"]["n"] == 101


def test_groups_have_metrics_with_intervals(scored: tuple) -> None:
    women = _row(scored[2], "30-39", "female", "black")
    assert women["n"] == WOMEN
    # Wilson's interval of 20 out of 40.
    assert women["gender_accuracy"] == {"n": 40, "value": 0.5, "low": 0.352, "high": 0.648}
    assert women["age_mae"]["value"] == 2.0
    assert women["emotion_accuracy"] is None
    assert _row(scored[2], "all", "female", "all")["n"] == WOMEN + 1
    assert _row(scored[2], "0-9", "all", "all")["n"] == 1


def test_worst_and_best_group_are_found(scored: tuple) -> None:
    worst = scored[2]["worst_group"]
    assert worst["gender"]["combined"] == {
        "worst": "30-39, female, black",
        "n": 40,
        "value": 0.5,
        "best": "30-39, male, black",
        "best_value": 1.0,
        "gap": 0.5,
    }
    assert "age_group" not in worst["gender"]  # one child is not compared
    assert "emotion" not in worst


def test_gender_and_ethnicity_are_compared_from_ten_years_on() -> None:
    ages = [(10.0, 19.0), (20.0, 36.0), (3.0, 9.0), NO_AGE]
    faces = labeled_faces(["fairface"] * 4, ages, gender=[0] * 4, ethnicity=[6, 6, 6, 6])
    rows = by_group(certain([0] * 4, gender=[0, 1, 0, 0], ethnicity=[4, 5, 0, 0]), faces)
    (adults,) = [row for row in rows if grouping_of(row) == "from_ten_on"]
    assert label_of(adults) == "10+, female, others"
    assert adults["n"] == 2
    assert adults["gender_accuracy"]["value"] == 0.5
    assert adults["ethnicity_accuracy"]["value"] == 1.0
    combined = [label_of(row) for row in rows if grouping_of(row) == "combined"]
    assert combined == ["0-9, female, others", "10-19, female, others"]  # ages 20 to 36 have no ten-year group


def test_balanced_source_has_groups_of_its_own() -> None:
    count = 30
    faces = labeled_faces(
        ["fairface"] * (2 * count) + ["utkface"] * count,
        [(20, 29)] * (3 * count),
        gender=[0] * count + [1] * (2 * count),
        ethnicity=[0] * (3 * count),
    )
    predicted = certain([25] * (3 * count), gender=[1] * (2 * count) + [0] * count)
    scores = report(predicted, faces)
    assert list(scores["balanced_sources"]) == ["fairface"]
    worst = scores["balanced_sources"]["fairface"]["worst_group"]["gender"]["from_ten_on"]
    assert (worst["worst"], worst["value"]) == ("10+, female, white", 0.0)
    assert (worst["best"], worst["best_value"]) == ("10+, male, white", 1.0)
    assert _row(scores, "all", "male", "all")["gender_accuracy"]["value"] == 0.5  # with the other source


def test_unreadable_images_and_unknown_labels_are_listed() -> None:
    faces = labeled_faces(["a"], [NO_AGE], unreadable=("broken.png",), emotion=[-1])
    faces.unknown["emotion"][0] = True
    faces.unknown_labels["emotion"]["contempt"] = 1
    scores = report(certain([0]), faces)
    assert scores["unreadable"] == ["broken.png"]
    assert scores["unknown_labels"] == {"emotion": {"contempt": 1}}
    assert scores["overall"]["emotion_accuracy"] == 0.0


def test_report_is_plain_json(scored: tuple) -> None:
    assert json.loads(json.dumps(scored[2])) == scored[2]


def test_plots_are_drawn(scored: tuple, tmp_path: Path) -> None:
    probabilities, faces, scores = scored
    paths = draw_all(probabilities, faces, scores, tmp_path / "plots")
    assert [path.stem for path in paths] == ["confusion", "reliability", "abstention", "age_error", "groups"]
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("L"))
        assert min(pixels.shape) > 200
        assert pixels.std() > 5  # something is drawn


def test_nothing_is_drawn_without_labels(tmp_path: Path) -> None:
    faces = labeled_faces(["a"], [NO_AGE])
    assert draw_all(certain([0]), faces, report(certain([0]), faces), tmp_path) == []
