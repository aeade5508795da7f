"""What runs networks, arrays in, arrays out: OpenVINO's graphs on the CPU, torch on a GPU."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from faceattr_udf.errors import WeightsError
from faceattr_udf.weights import WeightsRecord, load_file, load_record

_TOGETHER: Final = 32
"""Images that go through a network at once: what more of them make on the way outgrows the processor's cache, which
costs a sixth of the time. Even, so that a face and its mirror image stay together."""

_PAIRS_TOGETHER: Final = (_TOGETHER, _TOGETHER // 2)
"""Of each input of a mirrored record's graph: the second has one image where the first has two."""

_STANDARD: Final = re.compile(r"opset\d+|0")
"""Versions of layers whose code OpenVINO itself brings; 0 are its internal ones."""


def load_openvino() -> ModuleType:
    """Imports OpenVINO without its telemetry: every process that imports it would send an event to its makers.

    It asks for the package `openvino_telemetry` and does without where there is none.

    Returns:
        The module.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: an import of it fails
    # Imported when needed: reading records and configuration shall not cost 100 ms of native library.
    return importlib.import_module("openvino")


class Graph:
    """A `Network` on the CPU: a graph compiled by OpenVINO."""

    def __init__(self, name: str, folder: str | Path | None = None, threads: int = 1) -> None:
        """Loads, verifies and compiles.

        Args:
            name: File stem in `faceattr_udf.weights`.
            folder: Other place of the files; None means the package.
            threads: CPU threads of one inference.

        Raises:
            WeightsError: A file is missing, altered or not a graph.
        """
        ov = load_openvino()
        self.record: WeightsRecord = load_record(name, folder)
        xml, weights = load_file(self.record, "xml", folder), load_file(self.record, "bin", folder)
        _check(xml, len(weights), name)
        core = ov.Core()
        self._together = _PAIRS_TOGETHER if self.record.mirrored else (_TOGETHER,)
        try:
            model = core.read_model(model=xml, weights=ov.Tensor(np.frombuffer(weights, dtype=np.uint8)))
            settings = {
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                # Pinning would put every worker process of a machine on the same core.
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_PRECISION_HINT": "f32",  # same results on every CPU, also where bf16 would be faster
            }
            _count_inputs(model, len(self._together), name)
            compiled = core.compile_model(model, "CPU", settings)
            self._request: Any = compiled.create_infer_request()
            self._full: Any = self._request
            if _multiplies_bytes(model):
                # Of as many images as it knows beforehand, the runtime takes bytes as they lie in memory; of any number
                # it puts their colours apart first, and together again.
                lots = zip(model.inputs, self._together, strict=True)
                model.reshape({port: [count, *list(port.partial_shape)[1:]] for port, count in lots})
                self._full = core.compile_model(model, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            msg = f"weights {name}.xml and .bin are not a graph OpenVINO can compile; make them again by export"
            raise WeightsError(msg) from error
        self._outputs: list[Any] = list(compiled.outputs)

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """See `Network.output_shapes`."""
        return [tuple(dimension.get_length() for dimension in list(o.partial_shape)[1:]) for o in self._outputs]

    def __call__(self, *pixels: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
        """See `Network.__call__`; the outputs are copied out of the runtime's buffers."""
        inputs = list(zip(pixels, self._together, strict=True))
        lots = range(max(1, -(-len(pixels[0]) // _TOGETHER)))
        parts = [self._infer([array[lot * count : (lot + 1) * count] for array, count in inputs]) for lot in lots]
        return parts[0] if len(parts) == 1 else [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _infer(self, lot: list[npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        # share_inputs spares a copy of every pyramid level; the array outlives the call.
        request = self._full if len(lot[0]) == _TOGETHER else self._request
        result = request.infer(lot, share_inputs=True)
        return [np.array(result[place]) for place in range(len(self._outputs))]


def _count_inputs(model: Any, wanted: int, name: str) -> None:  # noqa: ANN401 - OpenVINO has no types
    if len(model.inputs) != wanted:
        took = f"{len(model.inputs)} of the {wanted} inputs"
        msg = f"weights {name}.xml takes {took} that {name}.json says; make it again by export"
        raise WeightsError(msg)


def _multiplies_bytes(model: Any) -> bool:  # noqa: ANN401 - OpenVINO has no types
    """Whether bytes go into a graph that computes in 8 bits."""
    in_8_bits = any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())
    return in_8_bits and model.input(0).get_element_type().to_string() == "u8"


def _check(xml: bytes, size: int, name: str) -> None:
    """Refuses what export never writes, before the native library reads it.

    Given other bytes, OpenVINO would try its readers of other formats, and those follow paths to further files.

    Args:
        xml: The graph.
        size: Bytes of its constants.
        name: File stem.

    Raises:
        WeightsError: It is no graph, declares entities, has a layer that needs an extension, or a constant that does
            not lie in the constants' file.
    """
    reason = "it is not whole XML"
    elements: list[str] = []

    def refuse(*_: object) -> None:
        msg = "it declares a document type"
        raise ValueError(msg)

    def start(element: str, attributes: dict[str, str]) -> None:
        elements.append(element)
        if elements[0] != "net":
            msg = "it does not begin with <net>"
            raise ValueError(msg)
        if element == "layer" and not _STANDARD.fullmatch(attributes["version"]):
            msg = f"layer {attributes['id']} is of an extension"
            raise ValueError(msg)
        if element == "data" and "offset" in attributes:
            first, length = int(attributes["offset"]), int(attributes["size"])
            if min(first, length) < 0 or first + length > size:
                msg = f"{length} bytes at {first} are not in the {size} bytes of {name}.bin"
                raise ValueError(msg)

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.StartDoctypeDeclHandler = start, refuse
    try:
        parser.Parse(xml, True)
    except (expat.ExpatError, KeyError):
        pass
    except ValueError as error:
        reason = str(error)
    else:
        return
    msg = f"weights {name}.xml are no graph that export made: {reason}; make them again by export"
    raise WeightsError(msg)
