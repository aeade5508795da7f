"""Exports the three networks of the MTCNN cascade, whose weights come from facenet-pytorch."""

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file

from faceattr_udf.errors import WeightsError
from faceattr_udf.inference.torch_loading import load_torch_network, wrap_for_inference
from faceattr_udf.networks.mtcnn import ONet, PNet, RNet
from faceattr_udf.training.export.openvino_graph import write_graph
from faceattr_udf.training.export.record import write_record
from faceattr_udf.weights import WeightsRecord

STAGES: Final[dict[str, tuple[type[PNet] | type[RNet] | type[ONet], int]]] = {
    "mtcnn_pnet": (PNet, 0),
    "mtcnn_rnet": (RNet, 24),
    "mtcnn_onet": (ONet, 48),
}
"""File stem -> network and side of its input, pixels; 0 accepts any size."""

# facenet-pytorch's layer names -> ours.
_RENAMES = {
    "conv1.": "block1.0.", "prelu1.": "block1.1.", "conv2.": "block2.0.", "prelu2.": "block2.1.",
    "conv3.": "block3.0.", "prelu3.": "block3.1.",
}  # fmt: skip
_STAGE_RENAMES = {
    "mtcnn_pnet": {"conv4_1.": "face.", "conv4_2.": "box."},
    "mtcnn_rnet": {"dense4.": "dense.0.", "prelu4.": "dense.1.", "dense5_1.": "face.", "dense5_2.": "box."},
    "mtcnn_onet": {
        "conv4.": "block4.0.", "prelu4.": "block4.1.", "dense5.": "dense.0.", "prelu5.": "dense.1.",
        "dense6_1.": "face.", "dense6_2.": "box.", "dense6_3.": "landmarks.",
    },
}  # fmt: skip

_EXAMPLE_SIZE = 64


def import_mtcnn(folder: Path) -> None:
    """Converts the weights that facenet-pytorch ships, and exports them.

    Raises:
        WeightsError: facenet-pytorch is not installed.
    """
    try:
        import facenet_pytorch  # noqa: PLC0415 - needed for this one conversion
    except ImportError as error:
        msg = "facenet-pytorch is not installed; run make install"
        raise WeightsError(msg) from error
    data = Path(facenet_pytorch.__file__).parent / "data"
    for name in STAGES:
        source = torch.load(data / f"{name.removeprefix('mtcnn_')}.pt", weights_only=True)
        renames = _RENAMES | _STAGE_RENAMES[name]
        state = {}
        for key, tensor in source.items():
            prefix = next(old for old in renames if key.startswith(old))
            state[renames[prefix] + key.removeprefix(prefix)] = tensor.contiguous()
        save_file(state, folder / f"{name}.safetensors")
        export_mtcnn(name, folder)


def export_mtcnn(name: str, folder: Path) -> None:
    """Writes the graph and the record of one network of the cascade from its safetensors."""
    stage_class, size = STAGES[name]
    side = size or _EXAMPLE_SIZE
    record = WeightsRecord(
        name=name,
        version="",
        sha256={},
        task="detection",
        architecture=f"faceattr_udf.networks.mtcnn.{stage_class.__name__}",
        input_size=size,
        normalisation="(x - 127.5) / 128, folded into the first convolution",
        licence="MIT, Copyright (c) 2019 Timothy Esler (facenet-pytorch 2.5.3)",
        training_data=["WIDER FACE and CelebA, by the authors of MTCNN (Zhang et al. 2016)"],
        training={"command": "python -m faceattr_udf.training.export mtcnn"},
    )
    example = torch.zeros((2, side, side, 4))  # float32: pixels of the image pyramid are means
    network = load_torch_network(record, (folder / f"{name}.safetensors").read_bytes())
    write_graph(
        wrap_for_inference(network, record), [example], [0] if size else [0, 1, 2], folder / name, precision="float32"
    )
    write_record(folder, record, ("safetensors", "xml", "bin"))
