"""Writes the weights of a trained network: safetensors, the OpenVINO graph and the record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from faceattr_udf.arrays import UInt8Array
from faceattr_udf.attributes.preprocess import preprocess
from faceattr_udf.errors import WeightsError
from faceattr_udf.inference.torch_loading import load_torch_network, wrap_for_inference
from faceattr_udf.models import MODELS
from faceattr_udf.training.export.openvino_graph import calibrate_graph, write_graph
from faceattr_udf.training.export.record import CLASS_LABELS, FACERES_LICENSE, LICENSE, write_record
from faceattr_udf.training.registry import TRAINING_SPECS, spec_for_architecture
from faceattr_udf.training.settings import TrainingSettings
from faceattr_udf.weights import WeightsRecord


def save_weights(
    network: nn.Module, settings: TrainingSettings, folder: Path, *, crops: UInt8Array, training: Mapping[str, Any]
) -> WeightsRecord:
    """Writes the files of a network, not yet calibrated: safetensors in float16, graph and record.

    Args:
        network: The trained network.
        settings: Settings of its training run.
        folder: Created if missing.
        crops: uint8 (n, size, size, 3), a few hundred production crops on which int8 graphs measure activation ranges.
        training: How the network was trained, for the record.
    """
    spec = TRAINING_SPECS[settings.model]
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    safetensors = folder / f"{settings.name}.safetensors"
    save_file(state, safetensors)
    safetensors.chmod(0o644)
    record = WeightsRecord(
        name=settings.name,
        version="",
        sha256={},
        task="attributes",
        architecture=MODELS[settings.model].architecture,
        input_size=spec.input_size,
        margin=settings.data.margin,
        grayscale=spec.grayscale,
        mirrored=spec.mirrored,
        normalisation=spec.normalization,
        classes={attribute: CLASS_LABELS[attribute] for attribute in spec.outputs if attribute in CLASS_LABELS},
        embedding="embedding" in spec.outputs,
        licence=FACERES_LICENSE if settings.model == "default" else LICENSE,
        training=dict(training),
    )
    return export_attributes(record, folder, crops)


def export_attributes(record: WeightsRecord, folder: Path, crops: UInt8Array | None = None) -> WeightsRecord:
    """Writes the graph and the record of an attribute network from its safetensors.

    Args:
        record: Its temperatures go into the graph.
        folder: Folder of the files.
        crops: Production crops, as in `save_weights`; only int8 graphs need them.

    Raises:
        WeightsError: The graph is int8 and there are no crops.
    """
    spec = spec_for_architecture(record.architecture)
    if spec.precision == "int8" and (crops is None or len(crops) == 0):
        msg = f"the int8 graph of {record.name} is quantized on faces; name some with --faces LABELED.parquet"
        raise WeightsError(msg)
    # The checksum is not verified: the weights were just written or changed, and the record is written afterwards.
    network = load_torch_network(record, (folder / f"{record.name}.safetensors").read_bytes())
    wrapped = wrap_for_inference(network, record.model_copy(update={"temperatures": {}}))
    blank = np.zeros((2, record.input_size, record.input_size, 3), dtype=np.uint8)
    example_inputs = [torch.from_numpy(array) for array in preprocess(record, blank)]
    samples = None if crops is None else [preprocess(record, crop[None]) for crop in crops]
    write_graph(wrapped, example_inputs, [0], folder / record.name, precision=spec.precision, samples=samples)
    return calibrate(record, folder, record.temperatures)


def calibrate(record: WeightsRecord, folder: Path, temperatures: Mapping[str, float]) -> WeightsRecord:
    """Adds temperatures to an uncalibrated graph and to its record."""
    spec = spec_for_architecture(record.architecture)
    calibrate_graph(folder / record.name, spec.outputs, temperatures)
    calibrated = record.model_copy(update={"temperatures": dict(temperatures)})
    return write_record(folder, calibrated, spec.file_suffixes)
