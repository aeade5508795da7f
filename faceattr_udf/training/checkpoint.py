"""What a training run leaves at its end: shippable weights, their graph and their record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from faceattr_udf.attributes.labels import CLASSES, MAX_AGE
from faceattr_udf.networks.served import Served
from faceattr_udf.training.files import write_graph, write_record
from faceattr_udf.training.systems import SYSTEMS, System
from faceattr_udf.weights import WeightsRecord

CLASS_LABELS = {"age": [str(year) for year in range(MAX_AGE + 1)]} | {k: list(v) for k, v in CLASSES.items()}

TRAINING_DATA = [
    "UTKFace (research use)",
    "All-Age-Faces (research use)",
    "FER2013 (research use)",
    "Images of Groups (research use)",
    "muxspace/facial_expressions (Apache-2.0)",
]

LICENCE = "Apache-2.0; trained on data sets for research use"
_FACERES_LICENCE = (
    "Apache-2.0; initialised from FaceRes-deep, MIT, Copyright (c) 2021 Vladimir Mandic; "
    "trained on data sets for research use"
)


def load_network(record: WeightsRecord, folder: Path) -> nn.Module:
    """Returns an attribute network in torch with the weights of its safetensors, for evaluation."""
    network = _system(record.architecture).make(0.0)
    network.load_state_dict(
        {key: value.float() for key, value in load_file(folder / f"{record.name}.safetensors").items()}
    )
    return network.eval()


def save_weights(
    network: nn.Module,
    model: str,
    folder: Path,
    name: str,
    *,
    margin: float,
    temperatures: Mapping[str, float],
    training: Mapping[str, Any],
) -> WeightsRecord:
    """Writes the four files of a network: safetensors (float16), graph and record.

    Args:
        network: Trained.
        model: Key of `SYSTEMS`.
        folder: Made if it is not there.
        name: File stem.
        margin: That its faces were cut with.
        temperatures: Attribute -> softmax temperature.
        training: How they came about, for the record.
    """
    system = SYSTEMS[model]
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    save_file(state, folder / f"{name}.safetensors")
    (folder / f"{name}.safetensors").chmod(0o644)
    record = WeightsRecord(
        name=name,
        version="",
        sha256={},
        task="attributes",
        architecture=f"{type(network).__module__}.{type(network).__name__}",
        input_size=system.input_size,
        margin=margin,
        grayscale=system.grayscale,
        normalisation=system.normalisation,
        classes={attribute: CLASS_LABELS[attribute] for attribute in system.outputs if attribute in CLASS_LABELS},
        embedding="embedding" in system.outputs,
        temperatures=dict(temperatures),
        licence=_FACERES_LICENCE if model == "default" else LICENCE,
        training_data=TRAINING_DATA,
        training=dict(training),
    )
    return export_attributes(record, folder)


def export_attributes(record: WeightsRecord, folder: Path) -> WeightsRecord:
    """Makes graph and record of an attribute network again from its safetensors."""
    system = _system(record.architecture)
    served = Served(load_network(record, folder), system.outputs, record.temperatures)
    example = torch.zeros((2, record.input_size, record.input_size, 3), dtype=torch.uint8)
    write_graph(served, example, [0], folder / record.name, "int8" if system.compressed else "float16")
    return write_record(folder, record, ("bin", "xml") if system.compressed else ("safetensors", "xml", "bin"))


def _system(architecture: str) -> System:
    return next(s for s in SYSTEMS.values() if isinstance(s.make, type) and architecture.endswith(s.make.__name__))
