"""Measures the shipped weights on a small sample of every source of the model card.

`python tests/pinned_figures.py` writes the figures again that tests/evaluation/test_model_card.py compares with.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from shared_data import SHARED

from faceattr_udf.attributes.predictor import load_predictor
from faceattr_udf.config import AttributesConfig
from faceattr_udf.datasets.labeled_faces import load_faces, read_tables
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.evaluation.report import report

FILE = Path(__file__).with_suffix(".json")
FACES_PER_SOURCE = 24
TEST_FILES = (SHARED / "faces-test.parquet", SHARED.parent / "faces" / "added-test.parquet")
VALIDATION_FILES = (SHARED / "faces-val.parquet", SHARED.parent / "faces" / "added-val.parquet")
REPEATS = SHARED.parent / "faces" / "val-repeats.txt"
"""Faces of the validation files whose photograph is also among the training faces."""
UNSEEN_FILES = (SHARED.parent / "faces" / "unseen.parquet",)
METRICS = ("age_mae", "age_in_range", "gender_accuracy", "ethnicity_accuracy", "emotion_accuracy")


def measure_sample() -> dict[str, dict[str, float]]:
    """Returns the metrics of each source over the first faces that it has in the files."""
    table = read_tables([*TEST_FILES, *UNSEEN_FILES])
    sources = np.asarray(table["source"].to_pylist())
    rows = np.concatenate([np.flatnonzero(sources == name)[:FACES_PER_SOURCE] for name in np.unique(sources)])
    predictor = load_predictor(AttributesConfig())
    record = predictor.record
    faces = load_faces(table.take(rows), record.input_size, record.margin, workers=1)
    scores: dict[str, dict[str, Any]] = report(predict_in_batches(predictor, faces), faces)["by_source"]
    return {
        source: {name: row[name] for name in METRICS if row[name] is not None} for source, row in sorted(scores.items())
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(measure_sample(), indent=2) + "\n", encoding="utf-8")
