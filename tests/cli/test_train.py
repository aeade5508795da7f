"""Short trainings on a few real faces, and the prediction and evaluation of the weights that they export."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_faces import write_labeled_faces
from safetensors.numpy import load_file

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.attributes.predictor import NetworkPredictor, load_predictor
from faceattr_udf.config import AttributesConfig, Config
from faceattr_udf.datasets.labeled_faces import load_faces, read_table
from faceattr_udf.labels import CLASSES
from faceattr_udf.models import MODELS
from faceattr_udf.training import loop, run
from faceattr_udf.training.export.record import PACKAGE_WEIGHTS
from faceattr_udf.weights import load_record
from jobs import compare, evaluate, train

FACES = 90
ALWAYS = ["train.num_evals=1", "train.device=cpu", "train.torch_compile=false", "train.data.workers=1", "train.seed=0"]
SMALL_FACES = "train.data.resolution_schedule=[[0.0, 64]]"
# Settings with which every model learns within a minute.
ARGUMENTS = {
    # Strong mixup would make the loss of single steps noisy.
    "default": [
        "train.optim.batch_size=16",
        "train.optim.epochs=4",
        "train.data.resolution_schedule=[[0.0, 64], [0.5, 112]]",
        "train.data.mixup_alpha=0.05",
    ],
    "default_emotion": ["train.optim.batch_size=16", "train.optim.epochs=10", "train.data.mixup_alpha=0.05"],
    "separate_grey": ["train.optim.batch_size=16", "train.optim.epochs=6"],
    "multitask_facenet_backbone": [
        "train.optim.batch_size=16",
        "train.optim.epochs=1.5",
        "train.facenet.people_per_batch=2",
    ],
    "multitask_facenet": [
        "train.optim.batch_size=16",
        "train.optim.epochs=6",
        "train.facenet.people_per_batch=2",
        "train.facenet.search_candidates=[2.0]",
        "train.facenet.search_epochs=0.1",
    ],
    "embedding_svm": ["train.svm.max_faces=128", "train.svm.c=[1.0, 10.0]", "train.svm.gamma=[1.0]"],
}
NETWORKS = [name for name in ARGUMENTS if name not in {"embedding_svm", "default_emotion"}]


def _train(name: str, data: Path, folder: Path, *overrides: str) -> int:
    """Runs the job with a cache of crops that all runs over these faces share."""
    settings = [part for override in (*ALWAYS, *ARGUMENTS[name], *overrides) for part in ("--set", override)]
    arguments = ["--config", f"conf/train/{name}.toml", "--data", str(data), "--output", str(folder)]
    arguments += ["--cache", str(data / "crops")]
    return train.main([*arguments, *settings])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, demo_photos: Path) -> Path:
    """Three small splits with faces of every source."""
    folder = tmp_path_factory.mktemp("data")
    write_labeled_faces(demo_photos, folder, {"train": FACES, "val": 45, "test": 45})
    return folder


@pytest.fixture(scope="module", autouse=True)
def few_samples() -> Iterator[None]:
    """Quantizes int8 graphs on a few faces; tests/weights measures their accuracy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_QUANTIZATION_CROPS", 6)
        yield


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the weights of all models."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_LOG_STEPS", 1)  # log every step: the loss of a single batch is noisy
        backbone = folder / "multitask_facenet_backbone.safetensors"
        assert _train("default", data, folder) == 0
        assert _train("separate_grey", data, folder) == 0
        assert _train("multitask_facenet_backbone", data, folder) == 0
        assert _train("multitask_facenet", data, folder, f"train.initial={backbone}") == 0
        assert _train("embedding_svm", data, folder, f"train.svm.embedding={folder}") == 0
    return folder


def _log(folder: Path, name: str) -> list[dict[str, float]]:
    (file,) = folder.glob(f"*{name}.train.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_training_loss_falls(name: str, trained: Path) -> None:
    file = trained / f"{'' if name.endswith('backbone') else 'attributes_'}{name}.train.jsonl"
    steps = [line for line in map(json.loads, file.read_text().splitlines()) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, steps[-1]["steps"] + 1))
    losses = [line["loss"] for line in steps]
    half = len(losses) // 2  # one batch of a few faces says little
    assert np.mean(losses[half:]) < np.mean(losses[:half])


@pytest.mark.slow
def test_svm_training_records_its_choice(trained: Path) -> None:
    chosen = load_record("attributes_embedding_svm", trained).training["chosen"]
    assert set(chosen) == {"age", "gender", "ethnicity", "emotion"}
    assert chosen["gender"]["mean_recall"] >= 0.5
    assert all(0 < figures["support_vectors"] <= FACES for figures in chosen.values())


@pytest.mark.slow
@pytest.mark.parametrize("model", list(MODELS))
def test_trained_weights_evaluate_to_their_record(model: str, trained: Path, data: Path, tmp_path: Path) -> None:
    record = load_predictor(AttributesConfig.model_validate({"model": model, "weights": str(trained)})).record
    assert record.training["settings"]["seed"] == 0
    assert record.training["faces"] == FACES
    assert set(record.temperatures) == set(record.classes)
    out = tmp_path / "scores.json"
    arguments = ["--faces", str(data / "faces-test.parquet"), "--json", str(out), "--card", str(tmp_path / "card.md")]
    settings = ["--set", f"attributes.weights={trained}", "--set", f"attributes.model={model}"]
    assert evaluate.main([*arguments, *settings]) == 0
    scores = json.loads(out.read_text())
    # The training run measured the same exported files for the record.
    assert scores["model_version"] == record.model_version
    assert {name: scores[name] for name in record.measured["test"]} == record.measured["test"]
    assert record.version in (tmp_path / "card.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("model", list(MODELS))
def test_every_trained_model_analyzes_a_photograph(model: str, trained: Path, demo_photos: Path) -> None:
    config = Config.load(None, [f"attributes.model={model}", f"attributes.weights={trained}"])
    (result,) = FaceAnalyzer.from_config(config).analyze([(demo_photos / "portrait.jpg").read_bytes()])
    assert result.n_faces > 0
    for face in result.faces:
        assert face.age is not None
        assert face.ethnicity is not None
        assert face.emotion is not None
        assert (face.gender is None) == (model == "separate_grey")


@pytest.mark.slow
def test_record_holds_the_best_weights_of_the_search(trained: Path) -> None:
    trials = [line for line in _log(trained, "attributes_multitask_facenet") if "totals" in line]
    best = max(trials, key=lambda line: line["score"])
    assert len(trials) > 1
    assert load_record("attributes_multitask_facenet", trained).training["task_weights"] == best["totals"]


@pytest.mark.slow
def test_finished_run_resumes_at_its_end(trained: Path, data: Path) -> None:
    before = load_record("attributes_default", trained)
    assert _train("default", data, trained) == 0
    assert load_record("attributes_default", trained).version == before.version
    lines = _log(trained, "attributes_default")
    assert {"resumed_at_step": max(line.get("steps", 0) for line in lines)} in lines


@pytest.mark.slow
def test_emotion_branch_trains_while_general_is_frozen(
    trained: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_LOG_STEPS", 1)
    general = trained / "attributes_default.safetensors"
    assert _train("default_emotion", data, tmp_path, f"train.initial={general}") == 0
    before, after = load_file(general), load_file(tmp_path / "attributes_default.safetensors")
    moved = {name.partition(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"emotion", "emotion_share"}
    losses = [line["loss"] for line in _log(tmp_path, "attributes_default") if "loss" in line]
    assert np.mean(losses[-16:]) < np.mean(losses[:16])
    one, other = (NetworkPredictor("attributes_default", folder) for folder in (trained, tmp_path))
    crops = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), dtype=np.uint8)
    assert np.abs(one.predict(crops)["emotion"] - other.predict(crops)["emotion"]).max() > 0.01


@pytest.mark.slow
def test_run_joins_two_runs_and_a_teacher(trained: Path, data: Path, tmp_path: Path) -> None:
    general, emotion, last = (tmp_path / name for name in ("general", "emotion", "last"))
    initial = f"train.initial={trained / 'attributes_default.safetensors'}"
    assert _train("default_emotion", data, emotion, initial, "train.optim.epochs=1") == 0
    assert _train("default", data, general, initial, "train.optim.epochs=0.2", SMALL_FACES) == 0
    overrides = [
        f"train.initial={general / 'attributes_default.safetensors'}",
        f"train.emotion_from={emotion / 'attributes_default.safetensors'}",
        f'train.distillation.teachers=["{general / "attributes_default.json"}"]',
    ]
    assert _train("default", data, last, *overrides, "train.optim.epochs=0.2", SMALL_FACES) == 0
    taken, there = (load_file(folder / "attributes_default.safetensors") for folder in (emotion, last))
    for name, values in taken.items():
        if name.startswith("emotion"):
            np.testing.assert_array_equal(values, there[name])
    training = load_record("attributes_default", last).training
    assert training["initial"]["model_version"] == load_record("attributes_default", general).model_version
    assert training["emotion"]["settings"]["branch"] == "emotion"


@pytest.mark.slow
def test_teachers_use_their_crops_and_fill_missing_labels(trained: Path, data: Path, tmp_path: Path) -> None:
    overrides = [
        f'train.distillation.teachers=["{PACKAGE_WEIGHTS / "attributes_default.json"}"]',
        f'train.distillation.unlabeled_teachers=["{trained / "attributes_default.json"}"]',
        "train.data.margin=0.8",
        "train.optim.epochs=0.2",
        SMALL_FACES,
    ]
    assert _train("default", data, tmp_path, *overrides) == 0
    training = load_record("attributes_default", tmp_path).training
    table = read_table(data / "faces-train.parquet")
    with np.load(tmp_path / "attributes_default.teachers.npz", allow_pickle=False) as said:
        for folder, role in ((PACKAGE_WEIGHTS, "teachers"), (trained, "unlabelled_teachers")):
            teacher = NetworkPredictor("attributes_default", folder)
            faces = load_faces(table, teacher.record.input_size, teacher.record.margin, workers=1)
            expected = teacher.predict(faces.crops)
            for name in CLASSES:
                spoken = faces.labeled(name) == (role == "teachers")
                assert np.abs(said[name] - expected[name])[spoken].mean() < 0.03
            assert [made["model_version"] for made in training[role]] == [teacher.record.model_version]


@pytest.mark.slow
def test_compare_prints_a_row_per_model(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "compare.json"
    arguments = ["--faces", str(data / "faces-test.parquet"), "--json", str(out), "--weights", str(trained)]
    assert compare.main(arguments) == 0
    rows = json.loads(out.read_text())
    assert list(rows) == list(MODELS)
    assert all(row["milliseconds_per_face"] > 0 for row in rows.values())
    assert rows["separate_grey"]["overall"]["gender_accuracy"] is None
    printed = capsys.readouterr().out
    assert all(f"| `{model}` |" in printed for model in MODELS)
    assert "58 %" in printed


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--set", "train.epoch=3"], "unknown key epoch"),
        (["--set", "train.batch_size=3"], "did you mean optim.batch_size?"),
        (["--set", "train.balance=0.4"], "it was renamed to data.balance_exponent"),
        (["--set", "train.optim.batch_size=1"], "optim.batch_size = 1 is wrong"),
        (["--set", "train.model=best"], "model = 'best' is wrong"),
        (["--set", "train.loss.task_weights={ mood = 1.0 }"], "mood is not an attribute"),
        (["--set", "train.facenet.freeze=[]"], "unknown key facenet.freeze"),
        (["--set", "data.seed=1"], "unknown section data"),
        (
            ["--set", "train.branch=emotion", "--set", "train.model=separate_grey"],
            "train.branch = 'emotion' needs train.model = 'default'",
        ),
        (
            ["--set", "train.emotion_from=x", "--set", "train.model=separate_grey"],
            "train.emotion_from needs train.model",
        ),
        (["--set", 'train.distillation.unlabeled_teachers=["x"]'], "needs train.distillation.teachers"),
        ([], "no *-train.parquet in "),
    ],
)
def test_wrong_settings_are_named(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--data", str(tmp_path), "--output", str(tmp_path / "out"), *arguments]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("train: ")
    assert named in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides", "named"),
    [
        ("multitask_facenet", [], "set train.initial"),
        (
            "separate_grey",
            ["train.loss.task_weights={ age = 1.0 }"],
            "task_weights lacks ethnicity, emotion",
        ),
        ("multitask_facenet", ["train.initial=x", 'train.facenet.frozen_layers=["mixed_9z"]'], "has no layer mixed_9z"),
        ("multitask_facenet", ["train.initial=nowhere.safetensors"], "nowhere.safetensors is not a readable"),
        (
            "multitask_facenet_backbone",
            ["train.data.resolution_schedule=[[0.0, 40]]"],
            "resolution_schedule has 40 pixels, too few for",
        ),
        pytest.param(
            "default",
            ["train.device=cuda"],
            "train.device = 'cuda', but torch sees no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU"),
        ),
        ("default", ["train.emotion_from={trained}/attributes_separate_grey.safetensors"], "that fits TwoTowers"),
        ("default", ["train.initial={trained}/attributes_separate_grey.safetensors"], "that fits TwoTowers"),
        (
            "default",
            ["train.data.resolution_schedule=[[0.0, 0]]"],
            "resolution_schedule has 0 pixels, too few for",
        ),
        ("separate_grey", ["train.initial={trained}/attributes_default.safetensors"], "fits SeparateGrey"),
        ("embedding_svm", ["train.svm.embedding={trained}/none"], "attributes_multitask_facenet.json is missing"),
    ],
)
def test_wrong_initial_weights_are_named(
    name: str,
    overrides: list[str],
    named: str,
    trained: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    assert _train(name, data, tmp_path, *(override.replace("{trained}", str(trained)) for override in overrides)) == 2
    assert named in capsys.readouterr().err


def test_evaluate_names_missing_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--faces", str(tmp_path / "none.parquet"), "--json", str(tmp_path / "out.json")]
    assert evaluate.main(arguments) == 2
    assert "none.parquet not found" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
