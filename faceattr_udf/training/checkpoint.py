"""What a training run leaves: resumable checkpoints on the way, shippable weights at the end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from faceattr_udf.attributes.labels import CLASSES, MAX_AGE
from faceattr_udf.networks.mobilenet import INPUT_SIZE, MobileNetV1, ServedAttributes
from faceattr_udf.training.files import write_graph, write_record
from faceattr_udf.weights import WeightsRecord

CLASS_LABELS = {"age": [str(year) for year in range(MAX_AGE + 1)]} | {k: list(v) for k, v in CLASSES.items()}

TRAINING_DATA = [
    "UTKFace (research use)",
    "All-Age-Faces (research use)",
    "FER2013 (research use)",
    "Images of Groups (research use)",
    "muxspace/facial_expressions (Apache-2.0)",
]


def load_network(weights: Path) -> MobileNetV1:
    """Returns the default network in torch with the weights of a safetensors file, for evaluation."""
    network = MobileNetV1()
    network.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
    return network.eval()


def save_weights(
    network: MobileNetV1,
    folder: Path,
    name: str,
    *,
    margin: float,
    temperatures: Mapping[str, float],
    training: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> WeightsRecord:
    """Writes the four files of a network: safetensors (float16), graph and record.

    Args:
        network: Trained.
        folder: Made if it is not there.
        name: File stem.
        margin: That its faces were cut with.
        temperatures: Attribute -> softmax temperature.
        training: Settings and log figures, for the record.
        measured: Figures, for the record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    save_file(state, folder / f"{name}.safetensors")
    (folder / f"{name}.safetensors").chmod(0o644)
    fields = {
        "name": name,
        "task": "attributes",
        "architecture": "faceattr_udf.networks.mobilenet.MobileNetV1",
        "input_size": INPUT_SIZE,
        "margin": margin,
        "normalisation": "minus ImageNet's mean pixel, inside the graph; probabilities averaged over the mirrored face",
        "classes": CLASS_LABELS,
        "temperatures": dict(temperatures),
        "licence": "Apache-2.0; initialised from FaceRes-deep, MIT, Copyright (c) 2021 Vladimir Mandic; "
        "trained on data sets for research use",
        "training_data": TRAINING_DATA,
        "training": dict(training),
        "measured": dict(measured),
    }
    return _export(fields, folder)


def export_attributes(record: WeightsRecord, folder: Path) -> WeightsRecord:
    """Makes graph and record of an attribute network again from its safetensors."""
    return _export(record.model_dump(exclude={"version", "sha256"}), folder)


def _export(fields: Mapping[str, Any], folder: Path) -> WeightsRecord:
    name = fields["name"]
    network = load_network(folder / f"{name}.safetensors")
    served = ServedAttributes(network, fields["temperatures"], flip=True)
    example = torch.zeros((2, INPUT_SIZE, INPUT_SIZE, 3), dtype=torch.uint8)
    write_graph(served, example, [0], folder / name, half=True)
    return write_record(folder, fields)
