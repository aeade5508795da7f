"""`faceattr evaluate` and `faceattr compare` on images without faces, whose crop is the whole image."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from shared_data import SHARED, needs_shared

from faceattr_udf.cli import compare, evaluate
from faceattr_udf.weights import load_record

NUMBERS = ("age", "age_min", "age_max")
TEXTS = ("image_id", "source", "gender", "ethnicity", "emotion")


def _write(file: Path, rows: list[dict[str, Any]], text: pa.DataType | None = None) -> Path:
    buffer = io.BytesIO()
    Image.fromarray(np.full((48, 48, 3), 120, np.uint8)).save(buffer, "PNG")
    types = {**dict.fromkeys(NUMBERS, pa.float64()), **dict.fromkeys(TEXTS, text or pa.string())}
    schema = pa.schema([*types.items(), ("image", pa.binary())])
    complete = [{"image_id": str(k), "image": buffer.getvalue(), **row} for k, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(complete, schema=schema), file)
    return file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One face each of UTKFace, FairFace and ExpW; the first file has another type of text than the others."""
    folder = tmp_path_factory.mktemp("faces")
    utkface = {"source": "utkface", "age": 30.0, "age_min": 30.0, "age_max": 30.0, "ethnicity": "others"}
    fairface = {"source": "fairface", "age_min": 20.0, "age_max": 29.0, "gender": "male", "ethnicity": "white"}
    return {
        "utkface": _write(folder / "utkface.parquet", [utkface], pa.large_string()),
        "fairface": _write(folder / "fairface.parquet", [fairface]),
        "expw": _write(folder / "expw.parquet", [{"source": "expw", "emotion": "fear"}]),
    }


def test_evaluate_joins_files_and_keeps_unseen_sources_apart(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, card = tmp_path / "new" / "scores.json", tmp_path / "card.md"
    arguments = ["--faces", str(files["utkface"]), "--faces", str(files["fairface"]), "--unseen", str(files["expw"])]
    arguments += ["--set", "attributes.min_confidence.gender=0.99", "--set", "attributes.min_confidence.ethnicity=0"]
    assert evaluate.main([*arguments, "--json", str(out), "--card", str(card)]) == 0
    scores = json.loads(out.read_text(encoding="utf-8"))
    assert list(scores["by_source"]) == ["fairface", "utkface"]
    assert list(scores["unseen"]["by_source"]) == ["expw"]
    assert {"overall", "by_source", "by_group", "worst_group"} <= set(scores["unseen"])
    assert scores["overall"]["emotion_accuracy"] is None
    assert scores["unseen"]["overall"]["emotion_accuracy"] is not None
    assert scores["files"] == {"faces": ["utkface.parquet", "fairface.parquet"], "unseen": ["expw.parquet"]}
    assert scores["abstention"]["gender"]["by_source"]["fairface"]["min_confidence"] == 0.99
    assert scores["abstention"]["ethnicity"]["overall"]["min_confidence"] == 0.0
    assert scores["small_faces"]["face_px"] == 32
    assert list(scores["small_faces"]["by_source"]) == ["fairface"]
    text = card.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "### Small faces" in text
    printed = capsys.readouterr().out
    assert printed.index("utkface") < printed.index("unseen sources") < printed.index("expw")
    assert (tmp_path / "new" / "scores-plots" / "unseen" / "confusion.png").exists()


def test_evaluate_without_unseen_sources_or_balanced_ones(files: dict[str, Path], tmp_path: Path) -> None:
    out, card = tmp_path / "scores.json", tmp_path / "card.md"
    assert evaluate.main(["--faces", str(files["utkface"]), "--json", str(out), "--card", str(card)]) == 0
    scores = json.loads(out.read_text(encoding="utf-8"))
    assert scores["unseen"] is scores["small_faces"] is scores["face_px"] is None
    assert "### Small faces" not in card.read_text(encoding="utf-8")


def test_evaluate_shrinks_faces(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    assert evaluate.main(["--faces", str(files["utkface"]), "--json", str(out), "--face-px", "12"]) == 0
    assert json.loads(out.read_text(encoding="utf-8"))["face_px"] == 12


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--faces", "utkface", "--card", "card.md", "--face-px", "32"], "--face-px cannot be used with --card"),
        (["--faces", "utkface", "--faces", "expw", "--unseen", "expw"], "--unseen has faces of expw"),
        (["--faces", "utkface", "--face-px", "4"], "--face-px"),
        ([], "--faces"),
    ],
)
def test_wrong_options_of_evaluate_are_named(
    arguments: list[str],
    named: str,
    files: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.json"
    assert evaluate.main([*(str(files.get(word, word)) for word in arguments), "--json", str(out)]) == 2
    assert named in capsys.readouterr().err
    assert not out.exists()


def test_compare_joins_files_and_names_models_with_one_class_for_others(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "ROUNDS", 1)
    monkeypatch.setattr(compare, "BATCH", 1)
    out = tmp_path / "compare.json"
    arguments = ["--faces", str(files["utkface"]), "--faces", str(files["fairface"]), "--json", str(out)]
    assert compare.main(arguments) == 0
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert all(list(row["by_source"]) == ["fairface", "utkface"] for row in rows.values())
    earlier = [model for model in rows if "others" in load_record(f"attributes_{model}").classes["ethnicity"]]
    assert "separate_grey" in earlier
    assert f"{', '.join(earlier)} cannot tell middle_eastern from latino_hispanic" in capsys.readouterr().out


@pytest.mark.slow
@needs_shared
def test_evaluate_takes_the_shared_files(tmp_path: Path) -> None:
    """Uses every 60th face; the files have different types of text."""
    options = []
    for option, file in (
        ("--faces", SHARED / "faces-test.parquet"),
        ("--faces", SHARED.parent / "faces" / "added-test.parquet"),
        ("--unseen", SHARED.parent / "faces" / "unseen.parquet"),
    ):
        table = pq.read_table(file)
        pq.write_table(table.take(list(range(0, len(table), 60))), tmp_path / file.name)
        options += [option, str(tmp_path / file.name)]
    out = tmp_path / "scores.json"
    assert evaluate.main([*options, "--json", str(out), "--card", str(tmp_path / "card.md")]) == 0
    scores = json.loads(out.read_text(encoding="utf-8"))
    assert {"fairface", "affectnet", "utkface"} <= set(scores["by_source"])
    assert set(scores["unseen"]["by_source"]) == {"expw", "fgnet"}
    assert scores["small_faces"]["by_source"]["fairface"]["gender_accuracy"] > 0.5


def test_evaluate_writes_statistics_and_proof_of_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_out = tmp_path / "ids.txt"
    left_out.write_text("0\n", encoding="utf-8")
    rows = [{"source": "x", "gender": "male"}, {"source": "x", "gender": "female"}]
    faces = _write(tmp_path / "x.parquet", rows)
    own, proof = tmp_path / "own.quantify.json", tmp_path / "shares.json"
    arguments = ["--faces", str(faces), "--json", str(tmp_path / "out.json"), "--leave-out", str(left_out)]
    assert evaluate.main([*arguments, "--quantify", str(own), "--shares", str(proof)]) == 0
    assert json.loads(own.read_text(encoding="utf-8"))["attributes"] == {}
    assert json.loads(proof.read_text(encoding="utf-8"))["attributes"]["gender"]["faces"] == [0, 0]  # no face found
    told = capsys.readouterr().out
    assert "holds no attribute; its checksum for attributes_default.json: " in told
    assert "because a label has fewer than 20 faces: age_group, gender, ethnicity, emotion" in told
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["overall"]["n"] == 1
    assert evaluate.main([*arguments, "--leave-out", str(tmp_path / "none.txt")]) == 2
    assert "--leave-out" in capsys.readouterr().err
