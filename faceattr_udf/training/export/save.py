"""What a training run leaves at its end: shippable weights, their graph and their record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import nn

from faceattr_udf.attributes.labels import CLASSES, MAX_AGE
from faceattr_udf.attributes.preprocess import views
from faceattr_udf.errors import WeightsError
from faceattr_udf.inference.torch_loading import build, serve
from faceattr_udf.training.export.openvino_graph import calibrate_graph, write_graph, write_record
from faceattr_udf.training.registry import SYSTEMS, System
from faceattr_udf.weights import WeightsRecord

UInt8Array = npt.NDArray[np.uint8]

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


def save_weights(
    network: nn.Module,
    model: str,
    folder: Path,
    name: str,
    *,
    margin: float,
    faces: UInt8Array,
    training: Mapping[str, Any],
) -> WeightsRecord:
    """Writes the four files of a network: safetensors (float16), graph and record; it is not calibrated yet.

    Args:
        network: Trained.
        model: Key of `SYSTEMS`.
        folder: Made if it is not there.
        name: File stem.
        margin: That its faces were cut with.
        faces: uint8 (n, size, size, 3), some hundred, cut as in production: what 8-bit graphs measure ranges on.
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
        mirrored=system.mirrored,
        normalisation=system.normalisation,
        classes={attribute: CLASS_LABELS[attribute] for attribute in system.outputs if attribute in CLASS_LABELS},
        embedding="embedding" in system.outputs,
        licence=_FACERES_LICENCE if model == "default" else LICENCE,
        training_data=TRAINING_DATA,
        training=dict(training),
    )
    return export_attributes(record, folder, faces)


def export_attributes(record: WeightsRecord, folder: Path, faces: UInt8Array | None = None) -> WeightsRecord:
    """Makes graph and record of an attribute network again from its safetensors.

    Args:
        record: Its temperatures go into the graph.
        folder: Of the files.
        faces: As `save_weights` takes them.

    Raises:
        WeightsError: The graph needs faces, and there are none.
    """
    system = _system(record.architecture)
    if system.precision == "int8" and (faces is None or len(faces) == 0):
        msg = f"the 8-bit graph of {record.name} measures its ranges on faces: give some with --faces LABELLED.parquet"
        raise WeightsError(msg)
    # Not verified: whoever exports has just made or changed these weights, and the record is written afterwards.
    network = build(record, (folder / f"{record.name}.safetensors").read_bytes())
    served = serve(network, record.model_copy(update={"temperatures": {}}))
    blank = np.zeros((2, record.input_size, record.input_size, 3), dtype=np.uint8)
    examples = [torch.from_numpy(array) for array in views(record, blank)]
    samples = None if faces is None else [views(record, face[None]) for face in faces]
    write_graph(served, examples, [0], folder / record.name, precision=system.precision, samples=samples)
    return calibrate(record, folder, record.temperatures)


def calibrate(record: WeightsRecord, folder: Path, temperatures: Mapping[str, float]) -> WeightsRecord:
    """Puts temperatures into a graph that has none, and into its record."""
    system = _system(record.architecture)
    calibrate_graph(folder / record.name, system.outputs, temperatures)
    return write_record(folder, record.model_copy(update={"temperatures": dict(temperatures)}), system.ships)


def _system(architecture: str) -> System:
    return next(s for s in SYSTEMS.values() if isinstance(s.make, type) and architecture.endswith(s.make.__name__))
