from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "folder_to_chart.py"


def test_notebook_runs_from_a_folder_to_a_chart(demo_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEATTR_PHOTOS", str(demo_photos))
    notebook = jupytext.read(NOTEBOOK)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    charts = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(charts) == 1
    statuses, faces, _ = [output["data"]["text/plain"] for output in outputs if "text/html" in output.get("data", {})]
    assert statuses.split()[-6:] == ["0", "no_face", "4", "1", "ok", "4"]
    names = ("five_friends.jpg", "astronaut.png", "portrait.jpg", "coffee.png")
    assert [name for name in names if name in faces] == ["five_friends.jpg", "astronaut.png", "portrait.jpg"]
