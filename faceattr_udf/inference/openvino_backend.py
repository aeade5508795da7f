"""The CPU backend: networks as OpenVINO graphs."""

import importlib
import sys
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from faceattr_udf.arrays import Float32Array
from faceattr_udf.errors import WeightsError
from faceattr_udf.inference.openvino_check import check_graph_xml
from faceattr_udf.weights import WeightsRecord, load_file, load_record

BATCH_SIZE: Final = 32
"""Maximum number of images per input and inference: larger batches overflow the CPU cache and are about 17 % slower.
Even, so that a face and its mirror image stay in the same batch."""


_STEP: Final = 4
"""The last items of a call are filled up to a multiple of this. OpenVINO prepares a graph anew for every batch size
that it has not met, which takes longer than the inference of twenty candidates."""


def load_openvino() -> ModuleType:
    """Imports OpenVINO without its telemetry, which would send an event from every process.

    OpenVINO imports the package `openvino_telemetry` if it can, and works without it.

    Returns:
        The module `openvino`.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes an import of it fail
    # Imported on demand: code that only reads records and configuration does not pay 100 ms for the native library.
    return importlib.import_module("openvino")


class OpenVinoModel:
    """A `Network` on the CPU: a graph compiled by OpenVINO."""

    def __init__(
        self,
        name: str,
        folder: str | Path | None = None,
        threads: int = 1,
        shape: tuple[int, ...] | None = None,
        *,
        outputs: Collection[int] | None = None,
    ) -> None:
        """Loads, verifies and compiles the graph.

        Args:
            name: File stem in `faceattr_udf.weights`.
            folder: Folder of the files; None means the package.
            threads: CPU threads per inference.
            shape: A shape that inputs often have, only for networks with one input: the graph is compiled for it, too,
                which is faster than a graph for any shape.
            outputs: Positions of the outputs to compute; None means all. What only the others need is not part of the
                compiled graph.

        Raises:
            WeightsError: A file is missing, altered or not a valid graph.
        """
        ov = load_openvino()
        self.record: WeightsRecord = load_record(name, folder)
        xml, weights = load_file(self.record, "xml", folder), load_file(self.record, "bin", folder)
        check_graph_xml(xml, len(weights), name)
        self._tensor: Any = ov.Tensor
        core = ov.Core()
        images = [spec.images_per_item for spec in self.record.inputs]
        self._images_per_item = images
        # Where inputs have any size, the caller chooses sizes that come again.
        self._fixed_size = all(spec.size > 0 for spec in self.record.inputs)
        self._batch_sizes = [BATCH_SIZE * count // max(images) for count in images]
        try:
            model = core.read_model(model=xml, weights=ov.Tensor(np.frombuffer(weights, dtype=np.uint8)))
            settings = {
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                # Pinning would bind all worker processes of a machine to the same core.
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_PRECISION_HINT": "f32",  # the same results on every CPU, even where bf16 would be faster
            }
            _check_input_count(model, len(images), name)
            if outputs is not None:
                kept = [result for index, result in enumerate(model.get_results()) if index in outputs]
                # All inputs stay, so that callers need not know which of them the outputs depend on.
                model = ov.Model(kept, model.get_parameters(), name)
            compiled = core.compile_model(model, "CPU", settings)
            self._request: Any = compiled.create_infer_request()
            if shape is None and _has_uint8_convolutions(model):
                # With a static batch size OpenVINO reads uint8 NHWC pixels directly; with a dynamic one it converts
                # them to NCHW and back.
                shapes = [(n, *_item_shape(port)) for n, port in zip(self._batch_sizes, model.inputs, strict=True)]
            else:
                shapes = [shape] if shape is not None else []
            self._static_shape = shapes[0] if shapes else None
            self._static_request: Any = None
            if shapes:
                model.reshape({port: list(shape) for port, shape in zip(model.inputs, shapes, strict=True)})
                self._static_request = core.compile_model(model, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            msg = (
                f"OpenVINO cannot compile the graph {name}.xml and {name}.bin; "
                f"run python -m faceattr_udf.training.export {name}"
            )
            raise WeightsError(msg) from error
        self._outputs: list[Any] = list(compiled.outputs)

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """See `Network.output_shapes`."""
        return [_item_shape(output) for output in self._outputs]

    def __call__(self, *inputs: npt.NDArray[Any]) -> list[Float32Array]:
        """See `Network.__call__`; the outputs are copies of OpenVINO's buffers."""
        sized = list(zip(inputs, self._batch_sizes, strict=True))
        count = max(1, -(-len(inputs[0]) // self._batch_sizes[0]))
        parts = [self._infer([array[i * size : (i + 1) * size] for array, size in sized]) for i in range(count)]
        return parts[0] if len(parts) == 1 else [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _infer(self, batch: list[npt.NDArray[Any]]) -> list[Float32Array]:
        items = len(batch[0]) // self._images_per_item[0]
        filled = _filled(items) if self._fixed_size else items
        if items < filled:
            batch = [_fill(array, filled * count) for array, count in zip(batch, self._images_per_item, strict=True)]
        request = self._static_request if batch[0].shape == self._static_shape else self._request
        # OpenVINO shares their memory, which avoids a copy, so they must live until the end of the call. It refuses
        # memory that may not be written. A dictionary of inputs would take as long as the inference of one candidate.
        arrays = [np.require(array, requirements=["C", "W"]) for array in batch]
        for index, array in enumerate(arrays):
            request.set_input_tensor(index, self._tensor(array, shared_memory=True))
        request.infer(share_outputs=True)
        return [np.array(request.get_output_tensor(index).data[:items]) for index in range(len(self._outputs))]


def _item_shape(port: Any) -> tuple[int, ...]:  # noqa: ANN401 - OpenVINO has no types
    """Returns the shape of an input or output without its first axis."""
    return tuple(dimension.get_length() for dimension in list(port.partial_shape)[1:])


def _filled(items: int) -> int:
    """Returns the batch size for a number of items: 0, 1, 2, or a multiple of `_STEP`.

    >>> [_filled(items) for items in (0, 1, 2, 3, 4, 5, 31, 32)]
    [0, 1, 2, 4, 4, 8, 32, 32]
    """
    return items if items < 3 else -(-items // _STEP) * _STEP


def _fill(images: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    """Returns the images and as many times the last one as are missing."""
    return np.concatenate([images, np.repeat(images[-1:], number - len(images), axis=0)])


def _check_input_count(model: Any, expected: int, name: str) -> None:  # noqa: ANN401 - OpenVINO has no types
    if len(model.inputs) != expected:
        msg = (
            f"the number of inputs of {name}.xml is {len(model.inputs)}, but {name}.json describes {expected}; "
            f"run python -m faceattr_udf.training.export {name}"
        )
        raise WeightsError(msg)


def _has_uint8_convolutions(model: Any) -> bool:  # noqa: ANN401 - OpenVINO has no types
    """Returns whether a graph takes uint8 pixels and computes in 8 bits."""
    quantized = any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())
    return quantized and model.input(0).get_element_type().to_string() == "u8"
