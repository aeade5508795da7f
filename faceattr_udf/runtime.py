"""The CPU runtime: a verified graph of `faceattr_udf.weights` compiled by OpenVINO, arrays in, arrays out."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceattr_udf.errors import WeightsError
from faceattr_udf.weights import WeightsRecord, load_file, load_record


class Graph:
    """One compiled network; not thread-safe, so every thread has its own."""

    def __init__(self, name: str, folder: str | Path | None = None, threads: int = 1) -> None:
        """Loads, verifies and compiles.

        Args:
            name: File stem in `faceattr_udf.weights`.
            folder: Other place of the files; None means the package.
            threads: CPU threads of one inference.

        Raises:
            WeightsError: A file is missing, altered or not a graph.
        """
        # Imported here so that reading records and configuration costs no 100 ms of native library.
        import openvino as ov  # noqa: PLC0415

        self.record: WeightsRecord = load_record(name, folder)
        xml, weights = load_file(self.record, "xml", folder), load_file(self.record, "bin", folder)
        core = ov.Core()
        try:
            model = core.read_model(model=xml, weights=ov.Tensor(np.frombuffer(weights, dtype=np.uint8)))
            compiled = core.compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": 1,
                    "PERFORMANCE_HINT": "LATENCY",
                    # Pinning would put every worker process of a machine on the same core.
                    "ENABLE_CPU_PINNING": False,
                    "INFERENCE_PRECISION_HINT": "f32",  # same results on every CPU, also where bf16 would be faster
                },
            )
        except RuntimeError as error:
            msg = f"weights {name}.xml and .bin are not a graph OpenVINO can compile; make them again by export"
            raise WeightsError(msg) from error
        self._request: Any = compiled.create_infer_request()
        self._outputs: list[Any] = list(compiled.outputs)

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """The shape of each output without its first axis; for networks whose other axes are fixed."""
        return [tuple(dimension.get_length() for dimension in list(o.partial_shape)[1:]) for o in self._outputs]

    def __call__(self, pixels: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
        """Runs the network.

        Args:
            pixels: (n, height, width, 3) in the record's colour order, values 0-255, of the graph's element type.

        Returns:
            The outputs in the graph's order, copied out of the runtime's buffers.
        """
        # share_inputs spares a copy of every pyramid level; the array outlives the call.
        result = self._request.infer([pixels], share_inputs=True)
        return [np.array(result[output]) for output in self._outputs]
