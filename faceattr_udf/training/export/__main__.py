"""From torch weights to the files that ship: safetensors, the CPU runtime's graph, and the record that binds them.

python -m faceattr_udf.training.export mtcnn      # from facenet-pytorch's weights, once
python -m faceattr_udf.training.export NAME       # graph of faceattr_udf/weights/NAME.safetensors again
python -m faceattr_udf.training.export attributes_default --faces faces-train.parquet    # 8 bits: measured on faces
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from faceattr_udf.datasets.labelled_faces import load_faces, read_table
from faceattr_udf.errors import FaceattrError, WeightsError
from faceattr_udf.inference.torch_loading import build, serve
from faceattr_udf.networks.mtcnn import ONet, PNet, RNet
from faceattr_udf.training.export.openvino_graph import write_graph, write_record
from faceattr_udf.training.export.save import export_attributes
from faceattr_udf.weights import WeightsRecord, load_record

_FACES = 300
PACKAGE_WEIGHTS = Path(__file__).resolve().parents[2] / "weights"

_MTCNN: dict[str, tuple[type[PNet] | type[RNet] | type[ONet], int]] = {
    "mtcnn_pnet": (PNet, 0),
    "mtcnn_rnet": (RNet, 24),
    "mtcnn_onet": (ONet, 48),
}

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


def import_mtcnn(folder: Path) -> None:
    """Converts the weights that facenet-pytorch ships to our files.

    Raises:
        WeightsError: facenet-pytorch is not installed.
    """
    try:
        import facenet_pytorch  # noqa: PLC0415 - needed for this one conversion
    except ImportError as error:
        msg = "facenet-pytorch is not installed; run make install"
        raise WeightsError(msg) from error
    data = Path(facenet_pytorch.__file__).parent / "data"
    for name in _MTCNN:
        source = torch.load(data / f"{name.removeprefix('mtcnn_')}.pt", weights_only=True)
        renames = _RENAMES | _STAGE_RENAMES[name]
        state = {}
        for key, tensor in source.items():
            prefix = next(old for old in renames if key.startswith(old))
            state[renames[prefix] + key.removeprefix(prefix)] = tensor.contiguous()
        save_file(state, folder / f"{name}.safetensors")
        export_mtcnn(name, folder)


def export_mtcnn(name: str, folder: Path) -> None:
    """Makes the graph and the record of one stage from its safetensors."""
    stage_class, size = _MTCNN[name]
    side = size or 64
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
    example = torch.zeros((2, side, side, 4))  # levels and candidates are means of pixels, hence float32
    served = serve(build(record, (folder / f"{name}.safetensors").read_bytes()), record)
    write_graph(served, [example], [0] if size else [0, 1, 2], folder / name, precision="float32")
    write_record(folder, record, ("safetensors", "xml", "bin"))


def _cut(path: Path, record: WeightsRecord) -> npt.NDArray[np.uint8]:
    table = read_table(path)
    rows = np.sort(np.random.default_rng(0).permutation(len(table))[:_FACES])
    return load_faces(table.take(rows), record.input_size, record.margin, grayscale=record.grayscale).crops


def main(argv: list[str] | None = None) -> int:
    """Runs the command of this module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="mtcnn, or a file stem in the weights folder")
    parser.add_argument("--folder", type=Path, default=PACKAGE_WEIGHTS)
    parser.add_argument("--faces", type=Path, metavar="LABELLED.parquet", help="what 8-bit graphs measure ranges on")
    arguments = parser.parse_args(argv)
    try:
        _export(arguments.name, arguments.folder, arguments.faces)
    except FaceattrError as error:
        sys.stderr.write(f"export: {error}\n")
        return 2
    return 0


def _export(name: str, folder: Path, faces: Path | None) -> None:
    if name == "mtcnn":
        import_mtcnn(folder)
    elif name in _MTCNN:
        export_mtcnn(name, folder)
    else:
        record = load_record(name, folder)
        export_attributes(record, folder, _cut(faces, record) if faces else None)


if __name__ == "__main__":
    raise SystemExit(main())
