"""A training run of the prefilter, from faces and photographs to weights."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from faceattr_udf.arrays import UInt8Array
from faceattr_udf.config import DetectorConfig
from faceattr_udf.datasets.labeled_faces import read_table
from faceattr_udf.detection import prefilter
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.networks.screen import ScreenNet
from faceattr_udf.training.export.openvino_graph import write_graph
from faceattr_udf.training.export.record import LICENSE, training_data, write_record
from faceattr_udf.training.prefilter.fit import fit, recall_thresholds
from faceattr_udf.training.prefilter.scenes import SyntheticScenes
from faceattr_udf.training.prefilter.targets import Targets, Teacher
from faceattr_udf.weights import WeightsRecord

_QUANTIZATION_SCENES = 120
_SUFFIXES = ("safetensors", "xml", "bin")


@dataclass(frozen=True, slots=True)
class PrefilterSettings:
    """Settings of a training run.

    Attributes:
        scenes: Training scenes.
        validation_scenes: Validation scenes.
        steps: Training steps.
        recall: Share of the validation faces that the prefilter must keep.
    """

    scenes: int = 2000
    validation_scenes: int = 200
    steps: int = 4000
    recall: float = 0.99


def train_prefilter(data: Path, output: Path, settings: PrefilterSettings) -> WeightsRecord:
    """Draws scenes, fits the prefilter, chooses its threshold on validation scenes, and writes graph and record.

    Args:
        data: Folder of faces-train.parquet, faces-val.parquet and photos.
        output: Folder of the weights; created if missing.
        settings: Settings of the run.
    """
    photographs = training_photographs(data / "photos")
    scenes = _draw_targets(data / "faces-train.parquet", photographs, settings.scenes, seed=1)
    validation = _draw_targets(data / "faces-val.parquet", photographs, settings.validation_scenes, seed=2)
    lines: list[dict[str, Any]] = []

    def log(metrics: dict[str, Any]) -> None:
        lines.append(metrics)
        sys.stderr.write(json.dumps(metrics) + "\n")

    log({"scenes": len(scenes), "faces": sum(len(scene.faces) for scene in scenes)})
    network = fit(scenes, validation, settings.steps, log)
    record = export_prefilter(
        network, validation, settings.recall, output, {"settings": asdict(settings), "log": lines}
    )
    sources = read_table(data / "faces-train.parquet")["source"].unique()
    seen = training_data(map(str, sources.to_pylist()))
    seen.append("photographs of the sets Face Mask Detection and dlib examples")
    return write_record(output, record.model_copy(update={"training_data": seen}), _SUFFIXES)


def training_photographs(folder: Path) -> list[UInt8Array]:
    """Reads every second photograph of a folder, ordered by name, without those named group-*."""
    paths = sorted(path for path in folder.glob("*.jpg") if not path.name.startswith("group-"))
    photographs = []
    for path in paths[::2]:
        with Image.open(path) as image:
            photographs.append(np.asarray(image.convert("RGB")))
    return photographs


def _draw_targets(faces: Path, photographs: list[UInt8Array], count: int, *, seed: int) -> list[Targets]:
    teacher = Teacher(Detector(DetectorConfig(prefilter=False)))
    scenes = SyntheticScenes(read_table(faces), photographs, seed)
    return [teacher.targets(scenes.draw()) for _ in range(count)]


def export_prefilter(
    network: ScreenNet, validation: Sequence[Targets], recall: float, folder: Path, training: dict[str, Any]
) -> WeightsRecord:
    """Writes the four files of the prefilter; a block passes where the graph's output is not negative.

    Args:
        network: The trained network; its last bias is changed.
        validation: Scenes that set the threshold and the activation ranges.
        recall: Share of their faces of which at least one block passes.
        folder: Folder of the files; created if missing.
        training: How the network was trained, for the record.
    """
    assert network.head.bias is not None  # noqa: S101 - narrows the type
    with torch.no_grad():
        network.head.bias -= recall_thresholds(network, validation, [recall])[0]
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / prefilter.WEIGHTS_NAME
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()}, stem.with_suffix(".safetensors")
    )
    random = np.random.default_rng(0)
    halves = [
        scene.halves[min(int(random.integers(5)), len(scene.halves) - 1)] for scene in validation[:_QUANTIZATION_SCENES]
    ]
    samples = [[np.concatenate([half, half[..., :1]], axis=2)[None].astype(np.float32)] for half in halves]
    write_graph(network, [torch.zeros((1, 64, 64, 4))], [1, 2], stem, precision="int8", samples=samples)
    record = WeightsRecord(
        name=prefilter.WEIGHTS_NAME,
        version="",
        sha256={},
        task="detection",
        architecture=f"{ScreenNet.__module__}.{ScreenNet.__name__}",
        input_size=0,
        normalisation="(x - 127.5) / 64, inside the graph",
        licence=LICENSE,
        training={"command": "python -m faceattr_udf.training.prefilter", **training},
    )
    return write_record(folder, record, _SUFFIXES)
