"""Exports networks: writes the OpenVINO graph and the record of a safetensors file.

python -m faceattr_udf.training.export mtcnn    # imports the cascade from facenet-pytorch, once
python -m faceattr_udf.training.export NAME     # exports faceattr_udf/weights/NAME.safetensors again
python -m faceattr_udf.training.export attributes_default --faces faces-train.parquet    # int8: quantized on faces
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from faceattr_udf.arrays import UInt8Array
from faceattr_udf.datasets.labeled_faces import load_faces, read_table
from faceattr_udf.errors import FaceattrError
from faceattr_udf.training.export.mtcnn import STAGES, export_mtcnn, import_mtcnn
from faceattr_udf.training.export.record import PACKAGE_WEIGHTS
from faceattr_udf.training.export.save import export_attributes
from faceattr_udf.weights import WeightsRecord, load_record

_QUANTIZATION_FACES = 300


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 when the name, the weights or the faces are wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="mtcnn, or a file stem in the weights folder")
    parser.add_argument("--folder", type=Path, default=PACKAGE_WEIGHTS)
    parser.add_argument("--faces", type=Path, metavar="LABELED.parquet", help="faces to quantize int8 graphs on")
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
    elif name in STAGES:
        export_mtcnn(name, folder)
    else:
        record = load_record(name, folder)
        export_attributes(record, folder, _crop_sample(faces, record) if faces else None)


def _crop_sample(path: Path, record: WeightsRecord) -> UInt8Array:
    table = read_table(path)
    rows = np.sort(np.random.default_rng(0).permutation(len(table))[:_QUANTIZATION_FACES])
    return load_faces(table.take(rows), record.input_size, record.margin, grayscale=record.grayscale).crops
