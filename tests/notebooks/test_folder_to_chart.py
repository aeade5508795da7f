from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

from jobs import demo_photos

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "folder_to_chart.py"


def test_the_notebook_walks_from_a_folder_to_a_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    assert demo_photos.main(["--output", str(photos)]) == 0
    monkeypatch.setenv("FACEATTR_PHOTOS", str(photos))
    notebook = jupytext.read(NOTEBOOK)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    charts = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(charts) == 1
    tables = [output["data"]["text/plain"] for output in outputs if "text/plain" in output.get("data", {})]
    faces = "\n".join(tables)
    assert {name for name in ("five_friends.jpg", "astronaut.png", "portrait.jpg", "coffee.png") if name in faces} == {
        "five_friends.jpg",
        "astronaut.png",
        "portrait.jpg",
    }
