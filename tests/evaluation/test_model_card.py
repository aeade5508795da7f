"""The model card in the repository describes the shipped weights, and the weights reach its metrics."""

import json
from pathlib import Path

import numpy as np
import pinned_figures
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from shared_data import SHARED, needs_shared

from faceattr_udf.attributes.predictor import load_predictor
from faceattr_udf.cli import evaluate
from faceattr_udf.config import AttributesConfig
from faceattr_udf.datasets.labeled_faces import load_faces, read_table, read_tables
from faceattr_udf.evaluation.model_card import model_card
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.labels import CLASSES
from faceattr_udf.weights import load_record

CARD = Path(__file__).parents[2] / "MODEL_CARD.md"


def test_card_matches_the_shipped_weights() -> None:
    record = load_record("attributes_default")
    scores = {"model_version": record.model_version, **record.measured["test"]}
    assert CARD.read_text(encoding="utf-8") == model_card(record, scores)


@needs_shared
def test_sample_of_every_source_has_the_pinned_figures() -> None:
    pinned = json.loads(pinned_figures.FILE.read_text(encoding="utf-8"))
    measured = pinned_figures.measure_sample()
    recorded = load_record("attributes_default").measured["test"]
    assert set(measured) == set(pinned) == set(recorded["by_source"]) | set(recorded["unseen"]["by_source"])
    # Instruction sets round 8-bit convolutions differently: two faces of a source may change.
    for source, figures in pinned.items():
        assert measured[source] == {
            name: pytest.approx(value, abs=0.3 if name == "age_mae" else 2.1 / pinned_figures.FACES_PER_SOURCE)
            for name, value in figures.items()
        }


@pytest.mark.slow
@needs_shared
def test_shipped_weights_reach_the_metrics_of_the_card(tmp_path: Path) -> None:
    """Uses every fifth face; the command in the card measures all of them in some minutes."""
    faces, unseen, out = tmp_path / "faces.parquet", tmp_path / "unseen.parquet", tmp_path / "scores.json"
    for files, sample in ((pinned_figures.TEST_FILES, faces), (pinned_figures.UNSEEN_FILES, unseen)):
        table = read_tables(files)
        pq.write_table(table.take(list(range(0, len(table), 5))), sample)
    assert evaluate.main(["--faces", str(faces), "--unseen", str(unseen), "--json", str(out)]) == 0
    scores = json.loads(out.read_text(encoding="utf-8"))
    recorded = load_record("attributes_default").measured["test"]
    assert scores["unreadable"] == recorded["unreadable"] == []
    for metrics, expected in (
        (scores["overall"], recorded["overall"]),
        (scores["unseen"]["overall"], recorded["unseen"]["overall"]),
    ):
        assert metrics["age_mae"] == pytest.approx(expected["age_mae"], abs=0.6)
        for name in ("gender", "ethnicity", "emotion"):
            # Three standard errors of ethnicity, which has the fewest faces, about 600.
            wanted = expected[f"{name}_accuracy"]
            assert metrics[f"{name}_accuracy"] == (wanted if wanted is None else pytest.approx(wanted, abs=0.06))
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
