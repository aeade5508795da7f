"""Training and evaluation, a few steps on a few real faces: the loss falls, and what comes out is what is served."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from shared_data import SHARED, needs_shared

from faceattr_udf.attributes.predictor import load_predictor
from faceattr_udf.config import AttributesConfig
from faceattr_udf.training import loop
from faceattr_udf.weights import load_record
from jobs import evaluate, train

ARGUMENTS = ["--config", "conf/train/default.toml", "--set", "train.batch_size=16", "--set", "train.epochs=4"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small splits with faces of every source."""
    folder = tmp_path_factory.mktemp("data")
    table = pq.read_table(SHARED / "faces-val.parquet")
    order = np.random.default_rng(0).permutation(len(table))
    for split, rows in (("train", order[:128]), ("val", order[128:176]), ("test", order[176:224])):
        pq.write_table(table.take(rows), folder / f"faces-{split}.parquet")
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_LOG_STEPS", 1)  # the loss of one batch says little
        assert train.main([*ARGUMENTS, "--data", str(data), "--output", str(folder)]) == 0
    return folder


def _log(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "attributes_default.train.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@needs_shared
def test_the_loss_falls(trained: Path) -> None:
    steps = [line for line in _log(trained) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 33))
    losses = [line["loss"] for line in steps]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])


@needs_shared
def test_what_was_trained_is_served_with_its_record(trained: Path, data: Path, tmp_path: Path) -> None:
    predictor = load_predictor(AttributesConfig(weights=str(trained)))
    record = predictor.record
    assert record.training["settings"]["seed"] == 0
    assert record.training["faces"] == 128
    assert set(record.temperatures) == {"age", "gender", "ethnicity", "emotion"}
    out = tmp_path / "scores.json"
    arguments = ["--faces", str(data / "faces-test.parquet"), "--json", str(out)]
    assert evaluate.main([*arguments, "--set", f"attributes.weights={trained}"]) == 0
    scores = json.loads(out.read_text())
    # The record was measured by the training run, from cuts and graph of its own.
    assert scores["overall"] == record.measured["test"]["overall"]
    assert scores["by_source"] == record.measured["test"]["by_source"]
    assert scores["model_version"] == record.model_version


@needs_shared
def test_a_finished_run_resumes_at_its_end(trained: Path, data: Path) -> None:
    before = load_record("attributes_default", trained)
    assert train.main([*ARGUMENTS, "--data", str(data), "--output", str(trained)]) == 0
    assert load_record("attributes_default", trained).version == before.version
    assert {"resumed_at_step": 32} in _log(trained)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--set", "train.epoch=3"], "unknown key epoch"),
        (["--set", "train.batch_size=1"], "batch_size = 1 is wrong"),
        (["--set", "data.seed=1"], "unknown section data"),
        ([], "faces-train.parquet not found"),
    ],
)
def test_what_is_wrong_is_named(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--data", str(tmp_path), "--output", str(tmp_path / "out"), *arguments]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("train: ")
    assert named in sentence
    assert not (tmp_path / "out").exists()


def test_faces_to_evaluate_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--faces", str(tmp_path / "none.parquet"), "--json", str(tmp_path / "out.json")]
    assert evaluate.main(arguments) == 2
    assert "none.parquet not found" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
