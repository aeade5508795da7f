"""The notebooks run on the demo's photographs, and show what they promise."""

from pathlib import Path
from typing import Any

import jupytext
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def executed(name: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Runs a notebook, and returns what its cells show."""
    monkeypatch.setenv("FACEATTR_PHOTOS", str(photos))
    notebook = jupytext.read(NOTEBOOKS / name)
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(outputs: list[dict[str, Any]]) -> str:
    return "".join(output["text"] for output in outputs if output.get("name") == "stdout")


def charts(outputs: list[dict[str, Any]]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def tables(outputs: list[dict[str, Any]]) -> list[str]:
    return [output["data"]["text/plain"] for output in outputs if "text/html" in output.get("data", {})]


def test_from_a_folder_to_a_chart(demo_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = executed("folder_to_chart.py", demo_photos, monkeypatch)
    assert charts(outputs) == 1
    statuses, faces, _ = tables(outputs)
    assert statuses.split()[-6:] == ["0", "no_face", "4", "1", "ok", "4"]
    names = ("five_friends.jpg", "astronaut.png", "portrait.jpg", "coffee.png")
    assert [name for name in names if name in faces] == ["five_friends.jpg", "astronaut.png", "portrait.jpg"]


def test_audience_study_corrects_shares_as_the_mart_does(demo_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = executed("audience_study.py", demo_photos, monkeypatch)
    assert charts(outputs) == 1
    _, _, shares, weights, by_hand, errors = tables(outputs)
    for attribute in ("age_group", "gender", "ethnicity", "emotion"):
        assert shares.count(attribute) > 1
    assert "score_label" in weights
    assert [line.split()[1] for line in by_hand.splitlines()[1:]] == ["female", "male"]
    assert sum(float(line.split()[2]) for line in by_hand.splitlines()[1:]) == pytest.approx(1.0, abs=1e-4)
    assert "se_model" in errors


def test_from_consent_to_erasure(demo_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = executed("responsible.py", demo_photos, monkeypatch)
    text = printed(outputs)
    assert "[eu-aia-5-1-f]" in text
    assert '"hits": []' in text
    assert '"state": "done"' in text
    first, faces, after_withdrawal, last, published = tables(outputs)
    assert "portrait.jpg  not_consented" in first
    assert "five_friends.jpg   True" in faces
    assert "five_friends.jpg" not in after_withdrawal
    assert "astronaut.png" in after_withdrawal
    assert "astronaut.png         erased" in last
    suppressed = [row.split()[1:3] for row in published.splitlines() if "<NA>" in row]
    assert ["north", "unknown"] in suppressed
    assert len(suppressed) == 4


@pytest.mark.slow
def test_own_model_is_trained_and_judged(demo_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACEATTR_FACES", raising=False)
    outputs = executed("own_model.py", demo_photos, monkeypatch)
    scores = tables(outputs)[-1]
    assert scores.split()[:2] == ["shipped", "mine"]
    gender = next(line.split() for line in scores.splitlines() if line.startswith("gender_accuracy"))
    assert gender[1] == "1.00"  # its own labels
    assert 0.0 <= float(gender[2]) <= 1.0
    assert "trained on" in printed(outputs)
    assert "female" in printed(outputs)
