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
