"""Makes trained weights the shipped ones: copies them, measures them, writes the model card and the pinned figures.

python tests/tools/ship_weights.py FOLDER
"""

import hashlib
import json
import shutil
import subprocess  # runs two of our own commands
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import pinned_figures  # noqa: E402 - it lies in the folder that was just added

NAME = "attributes_default"
WEIGHTS = ROOT / "faceattr_udf" / "weights"


def ship(folder: Path) -> None:
    """Ships the weights of a training run's output folder."""
    for suffix in ("json", "xml", "bin", "safetensors"):
        shutil.copy(folder / f"{NAME}.{suffix}", WEIGHTS)
    record = WEIGHTS / f"{NAME}.json"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "scores.json"
        faces = [option for path in pinned_figures.TEST_FILES for option in ("--faces", str(path))]
        unseen = [option for path in pinned_figures.UNSEEN_FILES for option in ("--unseen", str(path))]
        command = [sys.executable, "-m", "jobs.evaluate", *faces, *unseen, "--json", str(out)]
        # Our own command and our own files.
        subprocess.run([*command, "--card", str(ROOT / "MODEL_CARD.md")], cwd=ROOT, check=True)  # noqa: S603
        scores = json.loads(out.read_text(encoding="utf-8"))
        statistics = _quantify(Path(scratch))
    del scores["model_version"]
    content = json.loads(record.read_text(encoding="utf-8"))
    content["measured"]["test"] = scores
    content["sha256"][statistics.name] = hashlib.sha256(statistics.read_bytes()).hexdigest()
    record.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    # In a process of its own, which loads the weights as every user does.
    subprocess.run([sys.executable, str(Path(pinned_figures.__file__))], cwd=ROOT, check=True)  # noqa: S603


def _quantify(scratch: Path) -> Path:
    """Writes what corrects shares, from all faces that no training saw; the checksum of the record follows."""
    statistics = WEIGHTS / f"{NAME}.quantify.json"
    files = [*pinned_figures.TEST_FILES, *pinned_figures.VALIDATION_FILES]
    faces = [option for path in files for option in ("--faces", str(path))]
    command = [sys.executable, "-m", "jobs.evaluate", *faces, "--leave-out", str(pinned_figures.REPEATS)]
    # Our own command and our own files.
    outputs = ["--json", str(scratch / "all.json"), "--quantify", str(statistics)]
    subprocess.run([*command, *outputs], cwd=ROOT, check=True)  # noqa: S603
    return statistics


if __name__ == "__main__":
    ship(Path(sys.argv[1]))
