"""Training and evaluation, a few steps on a few real faces: the loss falls, and what comes out is what is served."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_faces import write_labelled_faces
from safetensors.numpy import load_file

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.attributes.predictor import MODELS, GraphPredictor, load_predictor
from faceattr_udf.config import AttributesConfig, Config
from faceattr_udf.datasets.labelled_faces import load_faces, read_table
from faceattr_udf.training import loop, run
from faceattr_udf.training.export.__main__ import PACKAGE_WEIGHTS
from faceattr_udf.weights import load_record
from jobs import compare, evaluate, train

FACES = 90
# What makes each system learn in a minute: fewer faces, and no search or backbone of an hour before.
ARGUMENTS = {
    # Mixed views make the loss of a step jump.
    "default": [
        "train.batch_size=16",
        "train.epochs=4",
        "train.resolution=[[0.0, 64], [0.5, 112]]",
        "train.mixup=0.05",
    ],
    "default_emotion": ["train.batch_size=16", "train.epochs=10", "train.mixup=0.05"],
    "default_last_pass": ["train.batch_size=16", "train.epochs=0.2", "train.resolution=[[0.0, 64]]"],
    "separate_grey": ["train.batch_size=16", "train.epochs=6"],
    "multitask_facenet_backbone": ["train.batch_size=16", "train.epochs=1.5", "train.facenet.people=2"],
    "multitask_facenet": [
        "train.batch_size=16",
        "train.epochs=1.5",
        "train.facenet.people=2",
        "train.facenet.search=[2.0]",
        "train.facenet.search_epochs=0.1",
    ],
    "embedding_svm": ["train.svm.faces=128", "train.svm.c=[1.0, 10.0]", "train.svm.gamma=[1.0]"],
}
NETWORKS = [name for name in ARGUMENTS if name not in {"embedding_svm", "default_emotion", "default_last_pass"}]


def _train(name: str, data: Path, folder: Path, *overrides: str) -> int:
    """Runs the job with cuts that all runs over these faces share."""
    always = ["train.validations=1", "train.device=cpu", "train.compiled=false", "train.workers=1", "train.seed=0"]
    settings = [part for override in (*always, *ARGUMENTS[name], *overrides) for part in ("--set", override)]
    arguments = ["--config", f"conf/train/{name}.toml", "--data", str(data), "--output", str(folder)]
    arguments += ["--cache", str(data / "cuts")]
    return train.main([*arguments, *settings])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, demo_photos: Path) -> Path:
    """Three small splits with faces of every source."""
    folder = tmp_path_factory.mktemp("data")
    write_labelled_faces(demo_photos, folder, {"train": FACES, "val": 45, "test": 45})
    return folder


@pytest.fixture(scope="module", autouse=True)
def few_samples() -> Iterator[None]:
    """8-bit graphs are measured on a few faces: how good they are is looked at in tests/weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_SAMPLE", 6)
        yield


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with the weights of all systems."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_LOG_STEPS", 1)  # the loss of one batch says little
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
def test_the_loss_falls(name: str, trained: Path) -> None:
    file = trained / f"{'' if name.endswith('backbone') else 'attributes_'}{name}.train.jsonl"
    steps = [line for line in map(json.loads, file.read_text().splitlines()) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, steps[-1]["steps"] + 1))
    losses = [line["loss"] for line in steps]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


@pytest.mark.slow
def test_svm_separates_its_training_faces(trained: Path) -> None:
    chosen = load_record("attributes_embedding_svm", trained).training["chosen"]
    assert set(chosen) == {"age", "gender", "ethnicity", "emotion"}
    assert chosen["gender"]["mean_recall"] >= 0.5
    assert all(0 < figures["support_vectors"] <= FACES for figures in chosen.values())


@pytest.mark.slow
@pytest.mark.parametrize("model", list(MODELS))
def test_what_was_trained_is_served_with_its_record(model: str, trained: Path, data: Path, tmp_path: Path) -> None:
    record = load_predictor(AttributesConfig.model_validate({"model": model, "weights": str(trained)})).record
    assert record.training["settings"]["seed"] == 0
    assert record.training["faces"] == FACES
    assert set(record.temperatures) == set(record.classes)
    out = tmp_path / "scores.json"
    arguments = ["--faces", str(data / "faces-test.parquet"), "--json", str(out), "--card", str(tmp_path / "card.md")]
    settings = ["--set", f"attributes.weights={trained}", "--set", f"attributes.model={model}"]
    assert evaluate.main([*arguments, *settings]) == 0
    scores = json.loads(out.read_text())
    # The record was measured by the training run, from cuts and files of its own.
    assert scores.pop("model_version") == record.model_version
    assert scores == record.measured["test"]
    assert record.version in (tmp_path / "card.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("model", list(MODELS))
def test_every_system_describes_the_faces_of_a_photograph(model: str, trained: Path, demo_photos: Path) -> None:
    config = Config.load(None, [f"attributes.model={model}", f"attributes.weights={trained}"])
    (result,) = FaceAnalyzer.from_config(config).analyze([(demo_photos / "portrait.jpg").read_bytes()])
    assert result.n_faces > 0
    for face in result.faces:
        assert face.age is not None
        assert face.ethnicity is not None
        assert face.emotion is not None
        assert (face.gender is None) == (model == "separate_grey")


@pytest.mark.slow
def test_the_search_of_the_total_weights_is_on_record(trained: Path) -> None:
    trials = [line for line in _log(trained, "attributes_multitask_facenet") if "totals" in line]
    best = max(trials, key=lambda line: line["score"])
    assert len(trials) > 1
    assert load_record("attributes_multitask_facenet", trained).training["task_weights"] == best["totals"]


@pytest.mark.slow
def test_a_finished_run_resumes_at_its_end(trained: Path, data: Path) -> None:
    before = load_record("attributes_default", trained)
    assert _train("default", data, trained) == 0
    assert load_record("attributes_default", trained).version == before.version
    lines = _log(trained, "attributes_default")
    assert {"resumed_at_step": max(line.get("steps", 0) for line in lines)} in lines


@pytest.mark.slow
def test_emotion_branch_trains_while_the_other_is_frozen(
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
    one, other = (GraphPredictor("attributes_default", folder) for folder in (trained, tmp_path))
    crops = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), dtype=np.uint8)
    assert np.abs(one.predict(crops)["emotion"] - other.predict(crops)["emotion"]).max() > 0.01


@pytest.mark.slow
def test_the_last_pass_joins_two_runs_and_a_teacher(trained: Path, data: Path, tmp_path: Path) -> None:
    general, emotion, last = (tmp_path / name for name in ("general", "emotion", "last"))
    initial = f"train.initial={trained / 'attributes_default.safetensors'}"
    assert _train("default_emotion", data, emotion, initial, "train.epochs=1") == 0
    assert _train("default", data, general, initial, "train.epochs=0.2", "train.resolution=[[0.0, 64]]") == 0
    overrides = [
        f"train.initial={general / 'attributes_default.safetensors'}",
        f"train.emotion_from={emotion / 'attributes_default.safetensors'}",
        f'train.teachers=["{general / "attributes_default.json"}"]',
    ]
    assert _train("default_last_pass", data, last, *overrides) == 0
    taken, there = (load_file(folder / "attributes_default.safetensors") for folder in (emotion, last))
    for name, values in taken.items():
        if name.startswith("emotion"):
            np.testing.assert_array_equal(values, there[name])
    training = load_record("attributes_default", last).training
    assert training["initial"]["model_version"] == load_record("attributes_default", general).model_version
    assert training["emotion"]["settings"]["tower"] == "emotion"


@pytest.mark.slow
def test_teachers_use_their_own_crops_and_fill_missing_labels(trained: Path, data: Path, tmp_path: Path) -> None:
    overrides = [
        f'train.teachers=["{PACKAGE_WEIGHTS / "attributes_default.json"}"]',
        f'train.unlabelled_teachers=["{trained / "attributes_default.json"}"]',
        "train.margin=0.8",
        "train.epochs=0.2",
        "train.resolution=[[0.0, 64]]",
    ]
    assert _train("default", data, tmp_path, *overrides) == 0
    training = load_record("attributes_default", tmp_path).training
    table = read_table(data / "faces-train.parquet")
    with np.load(tmp_path / "attributes_default.teachers.npz", allow_pickle=False) as said:
        for folder, role in ((PACKAGE_WEIGHTS, "teachers"), (trained, "unlabelled_teachers")):
            teacher = GraphPredictor("attributes_default", folder)
            faces = load_faces(table, teacher.record.input_size, teacher.record.margin, workers=1)
            expected = teacher.predict(faces.crops)
            for name in CLASSES:
                spoken = faces.labelled(name) == (role == "teachers")
                assert np.abs(said[name] - expected[name])[spoken].mean() < 0.03
            assert [made["model_version"] for made in training[role]] == [teacher.record.model_version]


@pytest.mark.slow
def test_one_table_compares_the_systems(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "compare.json"
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
        (["--set", "train.batch_size=1"], "batch_size = 1 is wrong"),
        (["--set", "train.model=best"], "model = 'best' is wrong"),
        (["--set", "train.task_weights={ mood = 1.0 }"], "mood is no attribute"),
        (["--set", "train.facenet.freeze=[]"], "unknown key facenet.freeze"),
        (["--set", "data.seed=1"], "unknown section data"),
        (
            ["--set", "train.tower=emotion", "--set", "train.model=separate_grey"],
            "tower = 'emotion' is a part of model",
        ),
        (["--set", "train.emotion_from=x", "--set", "train.model=separate_grey"], "train.emotion_from has a tower"),
        (["--set", 'train.unlabelled_teachers=["x"]'], "name train.teachers too"),
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides", "named"),
    [
        ("multitask_facenet", [], "train.initial gives no weights"),
        ("separate_grey", ["train.task_weights={ age = 1.0 }"], "train.task_weights lacks ethnicity, emotion"),
        ("multitask_facenet", ["train.initial=x", 'train.facenet.frozen=["mixed_9z"]'], "has no layer mixed_9z"),
        ("multitask_facenet", ["train.initial=nowhere.safetensors"], "nowhere.safetensors is not a readable"),
        ("multitask_facenet_backbone", ["train.resolution=[[0.0, 40]]"], "train.resolution has 40 pixels, too few for"),
        pytest.param(
            "default",
            ["train.device=cuda"],
            "train.device = 'cuda', but torch sees no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU"),
        ),
        ("default", ["train.emotion_from={trained}/attributes_separate_grey.safetensors"], "that fits TwoTowers"),
        ("default", ["train.initial={trained}/attributes_separate_grey.safetensors"], "that fits TwoTowers"),
        ("default", ["train.resolution=[[0.0, 0]]"], "train.resolution has 0 pixels, too few for"),
        ("separate_grey", ["train.initial={trained}/attributes_default.safetensors"], "fits SeparateGrey"),
        ("embedding_svm", ["train.svm.embedding={trained}/none"], "attributes_multitask_facenet.json is missing"),
    ],
)
def test_initial_weights_that_do_not_fit_are_named(
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


def test_faces_to_evaluate_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--faces", str(tmp_path / "none.parquet"), "--json", str(tmp_path / "out.json")]
    assert evaluate.main(arguments) == 2
    assert "none.parquet not found" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
