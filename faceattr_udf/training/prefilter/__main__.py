"""Trains the screen in front of P-Net and writes its weights.

    python -m faceattr_udf.training.prefilter --data FOLDER --output FOLDER

FOLDER/faces-train.parquet and faces-val.parquet have labelled faces, FOLDER/photos photographs: every second of these
is learnt from, and the others, and all that are called group-*, are left to measure on. Twenty minutes of one core.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save_file

from faceattr_udf.config import DetectorConfig
from faceattr_udf.datasets.labelled_faces import read_table
from faceattr_udf.detection import prefilter
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.errors import FaceattrError
from faceattr_udf.networks.screen import ScreenNet
from faceattr_udf.training.export.openvino_graph import write_graph, write_record
from faceattr_udf.training.export.save import TRAINING_DATA
from faceattr_udf.training.prefilter.canvases import Canvases
from faceattr_udf.training.prefilter.fit import fit, lowest
from faceattr_udf.training.prefilter.targets import Targets, Teacher
from faceattr_udf.weights import WeightsRecord

_SAMPLE = 120


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command of this module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--watched", type=int, default=200)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--recall", type=float, default=0.99, help="share of faces that is still to be found")
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        train(arguments)
    except FaceattrError as error:
        sys.stderr.write(f"screen: {error}\n")
        return 2
    return 0


def train(arguments: argparse.Namespace) -> WeightsRecord:
    """Makes pictures, fits, chooses the threshold on the watched pictures, and writes graph and record."""
    photographs = learnt_from(arguments.data / "photos")
    pictures, watched = (
        _pictures(arguments.data / f"faces-{split}.parquet", photographs, count, seed)
        for split, count, seed in (("train", arguments.pictures, 1), ("val", arguments.watched, 2))
    )
    lines: list[dict[str, Any]] = []

    def log(figures: dict[str, Any]) -> None:
        lines.append(figures)
        sys.stderr.write(json.dumps(figures) + "\n")

    log({"pictures": len(pictures), "faces": sum(len(picture.faces) for picture in pictures)})
    network = fit(pictures, watched, arguments.steps, log)
    settings = {name: getattr(arguments, name) for name in ("pictures", "watched", "steps", "recall")}
    return export(network, watched, arguments.recall, arguments.output, {"settings": settings, "log": lines})


def learnt_from(folder: Path) -> list[npt.NDArray[np.uint8]]:
    """Every second photograph of a folder by name, without those called group-*."""
    paths = sorted(path for path in folder.glob("*.jpg") if not path.name.startswith("group-"))
    pictures = []
    for path in paths[::2]:
        with Image.open(path) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    return pictures


def _pictures(faces: Path, photographs: list[npt.NDArray[np.uint8]], count: int, seed: int) -> list[Targets]:
    teacher = Teacher(Detector(DetectorConfig(screen=False)))
    canvases = Canvases(read_table(faces), photographs, seed)
    return [teacher.targets(canvases.draw()) for _ in range(count)]


def export(
    network: ScreenNet, watched: Sequence[Targets], recall: float, folder: Path, training: dict[str, Any]
) -> WeightsRecord:
    """Writes the four files; a block passes where the graph's output is not negative.

    Args:
        network: Trained; its last bias is changed.
        watched: The share `recall` of their faces has a block that passes.
        recall: See there.
        folder: Of the files; made.
        training: For the record.
    """
    assert network.head.bias is not None  # noqa: S101 - narrows the type
    with torch.no_grad():
        network.head.bias -= lowest(network, watched, [recall])[0]
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / prefilter.NAME
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()}, stem.with_suffix(".safetensors")
    )
    random = np.random.default_rng(0)
    halves = [picture.halves[min(int(random.integers(5)), len(picture.halves) - 1)] for picture in watched[:_SAMPLE]]
    samples = [[np.concatenate([half, half[..., :1]], axis=2)[None].astype(np.float32)] for half in halves]
    write_graph(network, [torch.zeros((1, 64, 64, 4))], [1, 2], stem, precision="int8", samples=samples)
    record = WeightsRecord(
        name=prefilter.NAME,
        version="",
        sha256={},
        task="detection",
        architecture=f"{ScreenNet.__module__}.{ScreenNet.__name__}",
        input_size=0,
        normalisation="(x - 127.5) / 64, inside the graph",
        licence="Apache-2.0; trained on data sets for research use",
        training_data=[*TRAINING_DATA, "photographs of the sets Face Mask Detection and dlib examples"],
        training={"command": "python -m faceattr_udf.training.prefilter", **training},
    )
    return write_record(folder, record, ("safetensors", "xml", "bin"))


if __name__ == "__main__":
    raise SystemExit(main())
