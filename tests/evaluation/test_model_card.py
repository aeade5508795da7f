"""The model card in the repository describes the shipped weights, and the weights reach its metrics."""

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from shared_data import SHARED, needs_shared

from faceattr_udf.attributes.predictor import load_predictor
from faceattr_udf.cli import evaluate
from faceattr_udf.config import AttributesConfig
from faceattr_udf.datasets.labeled_faces import load_faces, read_table
from faceattr_udf.evaluation.model_card import model_card
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.labels import CLASSES
from faceattr_udf.weights import load_record

CARD = Path(__file__).parents[2] / "MODEL_CARD.md"


def test_card_matches_the_shipped_weights() -> None:
    record = load_record("attributes_default")
    scores = {"model_version": record.model_version, **record.measured["test"]}
    assert CARD.read_text(encoding="utf-8") == model_card(record, scores)


def test_emotion_branch_runs_precede_the_run_that_merges_it() -> None:
    text = CARD.read_text(encoding="utf-8")
    assert text.rindex("epochs of the emotion branch") < text.index("of each loss by distillation")


@pytest.mark.slow
@needs_shared
def test_shipped_weights_reach_the_metrics_of_the_card(tmp_path: Path) -> None:
    """Uses every fifth test face; the command in the card measures all of them in a minute or two."""
    faces, out = tmp_path / "faces.parquet", tmp_path / "scores.json"
    table = pq.read_table(SHARED / "faces-test.parquet")
    pq.write_table(table.take(list(range(0, len(table), 5))), faces)
    assert evaluate.main(["--faces", str(faces), "--json", str(out)]) == 0
    scores = json.loads(out.read_text(encoding="utf-8"))
    recorded = load_record("attributes_default").measured["test"]
    assert scores["unreadable"] == recorded["unreadable"] == []
    metrics, expected = scores["overall"], recorded["overall"]
    assert metrics["age_mae"] == pytest.approx(expected["age_mae"], abs=0.4)
    for name in ("gender", "ethnicity", "emotion"):
        # Three standard errors of ethnicity, which has the fewest faces, about 400.
        assert metrics[f"{name}_accuracy"] == pytest.approx(expected[f"{name}_accuracy"], abs=0.05)
    assert len(list((tmp_path / "scores-plots").glob("*.png"))) == 5


@pytest.mark.slow
@needs_shared
def test_ethnicity_is_right_for_a_source_without_the_label() -> None:
    # All-Age-Faces is mostly East Asian and has no ethnicity labels, so training does not constrain the network on it.
    table = read_table(SHARED / "faces-val.parquet")
    predictor = load_predictor(AttributesConfig())
    rows = table.filter(pc.equal(table["source"], "aaf")).slice(0, 200)
    faces = load_faces(rows, predictor.record.input_size, predictor.record.margin)
    ethnicity = predict_in_batches(predictor, faces)["ethnicity"]
    assert np.mean(ethnicity.argmax(axis=1) == CLASSES["ethnicity"].index("asian")) > 0.8
