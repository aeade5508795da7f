"""The files of a network beside its safetensors: the CPU runtime's graph, and the record that binds them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from faceattr_udf.weights import WeightsRecord


def write_graph(served: nn.Module, example: torch.Tensor, dynamic: list[int], stem: Path, half: bool) -> None:
    """Converts a served module to `stem.xml` and `stem.bin`.

    Args:
        served: Pixels (n, h, w, 3) in, outputs out.
        example: An input to trace with; its dtype becomes the graph's.
        dynamic: Axes of the input that may have any size.
        stem: Path without suffix.
        half: Stores the constants as float16 (they are computed with in float32).
    """
    import openvino as ov  # noqa: PLC0415 - export is the only user, and training runs without it

    shape = [-1 if axis in dynamic else size for axis, size in enumerate(example.shape)]
    converted = ov.convert_model(served.eval(), example_input=example, input=[ov.PartialShape(shape)])
    ov.save_model(converted, stem.with_suffix(".xml"), compress_to_fp16=half)
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


def write_record(folder: Path, fields: Mapping[str, Any]) -> WeightsRecord:
    """Writes `NAME.json` with the checksums of the three files beside it.

    Args:
        folder: Where the files are.
        fields: Of `WeightsRecord`, without version and sha256.
    """
    name = fields["name"]
    sums = {
        f"{name}.{suffix}": hashlib.sha256((folder / f"{name}.{suffix}").read_bytes()).hexdigest()
        for suffix in ("safetensors", "xml", "bin")
    }
    record = WeightsRecord(**fields, version=sums[f"{name}.safetensors"][:12], sha256=sums)
    (folder / f"{name}.json").write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return record
