"""The files of a network beside its safetensors: the CPU runtime's graph, and the record that binds them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from faceattr_udf.weights import WeightsRecord

Constants = Literal["float32", "float16", "int8"]


def write_graph(served: nn.Module, example: torch.Tensor, dynamic: list[int], stem: Path, constants: Constants) -> None:
    """Converts a served module to `stem.xml` and `stem.bin`.

    Args:
        served: Pixels (n, h, w, 3) in, outputs out.
        example: An input to trace with; its dtype becomes the graph's.
        dynamic: Axes of the input that may have any size.
        stem: Path without suffix.
        constants: How the file keeps weights, which are computed with in float32 whatever it is; "int8" has one scale
            per output channel.
    """
    import openvino as ov  # noqa: PLC0415 - export is the only user, and training runs without it

    shape = [-1 if axis in dynamic else size for axis, size in enumerate(example.shape)]
    converted = ov.convert_model(served.eval(), example_input=example, input=[ov.PartialShape(shape)])
    if constants == "int8":
        import nncf  # noqa: PLC0415 - as above

        converted = nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_SYM)
    ov.save_model(converted, stem.with_suffix(".xml"), compress_to_fp16=constants != "float32")
    # Operations are named by counters of the process; named by their place, equal weights give equal files.
    graph = ov.Core().read_model(stem.with_suffix(".xml"))
    graph.set_friendly_name(stem.name)
    for place, operation in enumerate(graph.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{place}")
    content = {suffix: stem.with_name(f"{stem.name}.named.{suffix}") for suffix in ("xml", "bin")}
    ov.serialize(graph, content["xml"], content["bin"])
    del graph  # it maps the file that is replaced now
    for suffix, path in content.items():
        path.replace(stem.with_suffix(f".{suffix}"))


def write_record(folder: Path, record: WeightsRecord, suffixes: Sequence[str]) -> WeightsRecord:
    """Writes `NAME.json` with the checksums of the files beside it.

    Args:
        folder: Where the files are.
        record: Its version and checksums are made anew.
        suffixes: Of the files that belong to the network, the one that the version is taken from first.

    Returns:
        The record as written.
    """
    names = [f"{record.name}.{suffix}" for suffix in suffixes]
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    written = record.model_copy(update={"version": sums[names[0]][:12], "sha256": sums})
    (folder / f"{record.name}.json").write_text(written.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return written
