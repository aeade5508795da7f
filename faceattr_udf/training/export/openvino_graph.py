"""The files of a network beside its safetensors: the CPU runtime's graph, and the record that binds them."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceattr_udf.inference.openvino_backend import load_openvino
from faceattr_udf.networks.towers import SMALLEST_PROBABILITY
from faceattr_udf.weights import WeightsRecord

Precision = Literal["float32", "float16", "int8_constants", "int8"]
"""How a graph keeps its weights and computes: float32 throughout; constants of 16 or 8 bits, computed with in float32;
or convolutions in 8 bits, whose ranges are measured on faces."""

# The heads, which are cheap, and what is done with probabilities: age is an expectation over a hundred small ones.
_NOT_IN_8_BITS = ["MatMul", "ReduceMean", "Softmax", "Add", "Subtract", "Multiply"]

_AS_THEY_ARE = {"Convert", "Transpose"}
"""Operations that move values and do not change them."""


def write_graph(
    served: nn.Module,
    examples: Sequence[torch.Tensor],
    dynamic: list[int],
    stem: Path,
    *,
    precision: Precision,
    samples: Sequence[Sequence[npt.NDArray[Any]]] | None = None,
) -> None:
    """Converts a served module to `stem.xml` and `stem.bin`.

    Args:
        served: Pixels (n, h, w, 3) in, outputs out.
        examples: Its inputs, to trace with; their dtypes become the graph's.
        dynamic: Axes of every input that may have any size.
        stem: Path without suffix.
        precision: Of the graph.
        samples: For "int8" alone: a few hundred times its inputs, on which the ranges of activations are measured.
    """
    ov = load_openvino()
    shapes = [[-1 if axis in dynamic else size for axis, size in enumerate(example.shape)] for example in examples]
    inputs = [ov.PartialShape(shape) for shape in shapes]
    converted = ov.convert_model(served.eval(), example_input=tuple(examples), input=inputs)
    _pool_without_indices(converted)
    if precision == "int8_constants":
        import nncf  # noqa: PLC0415 - export is the only user, and training runs without it

        converted = nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_SYM)
    if precision == "int8":
        converted = _quantize(converted, samples)
        _keep_bytes(converted)
    _save(converted, stem, half=precision != "float32")


def _pool_without_indices(model: Any) -> None:  # noqa: ANN401 - OpenVINO has no types
    """Makes each maximum pooling one that does not also say where the maxima are, which nobody asks and all pay for."""
    ops = load_openvino().opset1
    for operation in model.get_ordered_ops():
        if operation.get_type_name() == "MaxPool":
            attributes = operation.get_attributes()
            pooled = ops.max_pool(
                operation.input_value(0),
                attributes["strides"],
                attributes["pads_begin"],
                attributes["pads_end"],
                attributes["kernel"],
                attributes["rounding_type"].removesuffix("_torch"),
                attributes["auto_pad"],
            )
            operation.output(0).replace(pooled.output(0))


def _quantize(model: Any, samples: Sequence[Sequence[npt.NDArray[Any]]] | None) -> Any:  # noqa: ANN401 - OpenVINO has no types
    import nncf  # noqa: PLC0415 - as above
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix  # noqa: PLC0415

    nncf.set_log_level(logging.WARNING)
    if not samples:
        msg = "an int8 graph needs samples to measure its ranges on"
        raise ValueError(msg)
    return nncf.quantize(
        model,
        nncf.Dataset(list(samples)),
        subset_size=len(samples),
        # The slow correction: with the fast one ethnicity loses three points, with this one nothing.
        fast_bias_correction=False,
        ignored_scope=nncf.IgnoredScope(types=_NOT_IN_8_BITS, validate=False),
        # Without it sums overflow on processors that lack VNNI, and results would depend on the machine.
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
    )


def _keep_bytes(model: Any) -> None:  # noqa: ANN401 - OpenVINO has no types
    """Gives bytes that go into 8-bit layers the range of bytes: they stay what they are, and the step costs nothing.

    What is measured on faces ends a little below 255: bytes would be scaled to other bytes, and white ones cut off.
    """
    ops = load_openvino().opset13
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "FakeQuantize":
            continue
        source = operation.input_value(0).get_node()
        while source.get_type_name() in _AS_THEY_ARE:
            source = source.input_value(0).get_node()
        if source.get_type_name() == "Parameter" and source.get_element_type().to_string() == "u8":
            for place, bound in enumerate((0.0, 255.0, 0.0, 255.0), start=1):
                operation.input(place).replace_source_output(ops.constant(np.float32(bound)).output(0))


def calibrate_graph(stem: Path, outputs: Sequence[str], temperatures: Mapping[str, float]) -> None:
    """Divides the logarithms of a graph's probabilities by temperatures and normalises again, inside the graph.

    Args:
        stem: Path without suffix of a graph that `write_graph` wrote.
        outputs: Names of its outputs, in order.
        temperatures: Output -> temperature; outputs that are not named stay as they are.
    """
    ov = load_openvino()
    ops = ov.opset13
    model = ov.Core().read_model(stem.with_suffix(".xml"))
    for name, result in zip(outputs, model.get_results(), strict=True):
        if name in temperatures:
            probability = ops.maximum(result.input_value(0), np.float32(SMALLEST_PROBABILITY))
            scaled = ops.divide(ops.log(probability), np.float32(temperatures[name]))
            result.input(0).replace_source_output(ops.softmax(scaled, axis=1).output(0))
    model.validate_nodes_and_infer_types()
    _save(model, stem, half=True)


def _save(model: Any, stem: Path, *, half: bool) -> None:  # noqa: ANN401 - OpenVINO has no types
    ov = load_openvino()
    plain = stem.with_name(f"{stem.name}.plain.xml")
    ov.save_model(model, plain, compress_to_fp16=half)
    # Operations are named by counters of the process; named by their place, equal weights give equal files.
    graph = ov.Core().read_model(plain)
    graph.set_friendly_name(stem.name)
    for place, operation in enumerate(graph.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{place}")
    content = {suffix: stem.with_name(f"{stem.name}.named.{suffix}") for suffix in ("xml", "bin")}
    ov.serialize(graph, content["xml"], content["bin"])
    del graph, model  # they map the files that are replaced now
    for suffix, path in content.items():
        path.replace(stem.with_suffix(f".{suffix}"))
        plain.with_suffix(f".{suffix}").unlink()


def write_record(folder: Path, record: WeightsRecord, suffixes: Sequence[str]) -> WeightsRecord:
    """Writes `NAME.json` with the checksums of the files beside it.

    Args:
        folder: Where the files are.
        record: Its version and checksums are made anew.
        suffixes: Of the files that belong to the network.

    Returns:
        The record as written.
    """
    names = [f"{record.name}.{suffix}" for suffix in suffixes]
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    # Of all files: the same weights in another graph give other answers, and tables must tell them apart.
    version = hashlib.sha256("".join(sums.values()).encode()).hexdigest()[:12]
    written = record.model_copy(update={"version": version, "sha256": sums})
    (folder / f"{record.name}.json").write_text(written.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return written
