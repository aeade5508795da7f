"""Converts torch networks to OpenVINO graphs, quantizes and calibrates them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceattr_udf.inference.openvino_backend import load_openvino
from faceattr_udf.networks.towers import MIN_PROBABILITY

Precision = Literal["float32", "float16", "int8_constants", "int8"]
"""How a graph stores and computes: float32 throughout; float16 or int8 constants, computed in float32; or int8
convolutions, whose activation ranges are measured on faces."""

# The heads, which are cheap, and operations on probabilities: age is an expectation over a hundred small ones.
_NOT_QUANTIZED = ["MatMul", "ReduceMean", "Softmax", "Add", "Subtract", "Multiply"]

_VALUE_PRESERVING = {"Convert", "Transpose"}
"""Operations that move values without changing them."""


def write_graph(
    network: nn.Module,
    example_inputs: Sequence[torch.Tensor],
    dynamic: list[int],
    stem: Path,
    *,
    precision: Precision,
    samples: Sequence[Sequence[npt.NDArray[Any]]] | None = None,
) -> None:
    """Converts a network to `stem.xml` and `stem.bin`.

    Args:
        network: Takes pixels (n, h, w, channels) and returns the outputs as a tuple.
        example_inputs: Inputs to trace with; their dtypes become the graph's.
        dynamic: Axes of every input that accept any size.
        stem: Path without suffix.
        precision: Precision of the graph.
        samples: Only for "int8": a few hundred tuples of inputs, on which activation ranges are measured.
    """
    ov = load_openvino()
    shapes = [
        [-1 if axis in dynamic else size for axis, size in enumerate(example.shape)] for example in example_inputs
    ]
    inputs = [ov.PartialShape(shape) for shape in shapes]
    converted = ov.convert_model(network.eval(), example_input=tuple(example_inputs), input=inputs)
    _drop_pooling_indices(converted)
    if precision == "int8_constants":
        import nncf  # noqa: PLC0415 - export is the only user, and training runs without it

        converted = nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_SYM)
    if precision == "int8":
        converted = _quantize(converted, samples)
        _set_byte_range(converted)
    _save(converted, stem, half=precision != "float32")


def _drop_pooling_indices(model: Any) -> None:  # noqa: ANN401 - OpenVINO has no types
    """Replaces max-pooling operations that also return indices; the indices are unused and slow."""
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
        msg = "an int8 graph needs samples to measure activation ranges on"
        raise ValueError(msg)
    return nncf.quantize(
        model,
        nncf.Dataset(list(samples)),
        subset_size=len(samples),
        # The slow bias correction: with the fast one the accuracy of ethnicity drops by three percentage points.
        fast_bias_correction=False,
        ignored_scope=nncf.IgnoredScope(types=_NOT_QUANTIZED, validate=False),
        # Prevents sums from overflowing on CPUs without VNNI, where results would differ.
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
    )


def _set_byte_range(model: Any) -> None:  # noqa: ANN401 - OpenVINO has no types
    """Sets the input quantization range to [0, 255], so that uint8 pixels pass through unchanged.

    The range measured on faces ends slightly below 255, which would rescale the pixels and clip white ones.
    """
    ops = load_openvino().opset13
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "FakeQuantize":
            continue
        source = operation.input_value(0).get_node()
        while source.get_type_name() in _VALUE_PRESERVING:
            source = source.input_value(0).get_node()
        if source.get_type_name() == "Parameter" and source.get_element_type().to_string() == "u8":
            for index, bound in enumerate((0.0, 255.0, 0.0, 255.0), start=1):
                operation.input(index).replace_source_output(ops.constant(np.float32(bound)).output(0))


def calibrate_graph(stem: Path, outputs: Sequence[str], temperatures: Mapping[str, float]) -> None:
    """Adds softmax temperatures to a graph: divides log probabilities by them and normalizes again.

    Args:
        stem: Path without suffix of a graph written by `write_graph`.
        outputs: Names of its outputs, in order.
        temperatures: Output -> temperature; other outputs do not change.
    """
    ov = load_openvino()
    ops = ov.opset13
    model = ov.Core().read_model(stem.with_suffix(".xml"))
    for name, result in zip(outputs, model.get_results(), strict=True):
        if name in temperatures:
            probability = ops.maximum(result.input_value(0), np.float32(MIN_PROBABILITY))
            scaled = ops.divide(ops.log(probability), np.float32(temperatures[name]))
            result.input(0).replace_source_output(ops.softmax(scaled, axis=1).output(0))
    model.validate_nodes_and_infer_types()
    _save(model, stem, half=True)


def _save(model: Any, stem: Path, *, half: bool) -> None:  # noqa: ANN401 - OpenVINO has no types
    ov = load_openvino()
    plain = stem.with_name(f"{stem.name}.plain.xml")
    ov.save_model(model, plain, compress_to_fp16=half)
    # Names contain counters of the process. Named by their order instead, equal weights give equal files.
    graph = ov.Core().read_model(plain)
    graph.set_friendly_name(stem.name)
    for index, operation in enumerate(graph.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{index}")
    content = {suffix: stem.with_name(f"{stem.name}.named.{suffix}") for suffix in ("xml", "bin")}
    ov.serialize(graph, content["xml"], content["bin"])
    del graph, model  # they memory-map the files that are replaced next
    for suffix, path in content.items():
        path.replace(stem.with_suffix(f".{suffix}"))
        plain.with_suffix(f".{suffix}").unlink()
