"""The model card in the repository is that of the weights in the repository, and its figures are those they reach."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from shared_data import SHARED, needs_shared

from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.attributes.predictor import load_predictor
from faceattr_udf.config import AttributesConfig
from faceattr_udf.evaluation.card import model_card
from faceattr_udf.evaluation.faces import load_faces, read_table
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.weights import load_record
from jobs import evaluate

CARD = Path(__file__).parents[2] / "MODEL_CARD.md"


def test_the_card_is_that_of_the_shipped_weights() -> None:
    record = load_record("attributes_default")
    scores = {"model_version": record.model_version, **record.measured["test"]}
    assert CARD.read_text(encoding="utf-8") == model_card(record, scores)


def test_a_run_that_took_a_tower_over_comes_after_the_runs_that_made_it() -> None:
    text = CARD.read_text(encoding="utf-8")
    assert text.rindex("passes of the tower for emotion") < text.index("of each loss from what earlier weights said")


@pytest.mark.slow
@needs_shared
def test_the_shipped_weights_reach_the_figures_of_the_card(tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    assert evaluate.main(["--faces", str(SHARED / "faces-test.parquet"), "--json", str(out)]) == 0
    scores = json.loads(out.read_text(encoding="utf-8"))
    recorded = load_record("attributes_default").measured["test"]
    assert scores["unknown_labels"] == recorded["unknown_labels"]
    assert scores["unreadable"] == recorded["unreadable"] == []
    # Another processor rounds otherwise: a face or two of thousands may fall on the other side.
    _assert_close(scores["overall"], recorded["overall"], 0.002)
    _assert_close(scores["by_source"], recorded["by_source"], 0.02)
    assert len(list((tmp_path / "scores-plots").glob("*.png"))) == 5


@pytest.mark.slow
@needs_shared
def test_what_no_source_labels_is_seen_all_the_same() -> None:
    # All-Age-Faces is mostly East Asian and has no label of ethnicity: a network can learn to say anything of it.
    table = read_table(SHARED / "faces-val.parquet")
    predictor = load_predictor(AttributesConfig())
    rows = table.filter(pc.equal(table["source"], "aaf"))
    faces = load_faces(rows, predictor.record.input_size, predictor.record.margin)
    ethnicity = predict_in_batches(predictor, faces)["ethnicity"]
    assert np.mean(ethnicity.argmax(axis=1) == CLASSES["ethnicity"].index("asian")) > 0.8


def _assert_close(ours: Any, theirs: Any, tolerance: float) -> None:
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            _assert_close(ours[key], value, tolerance)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=tolerance * max(1.0, theirs))
    elif isinstance(theirs, int):
        assert abs(ours - theirs) <= 2
    else:
        assert ours == theirs
