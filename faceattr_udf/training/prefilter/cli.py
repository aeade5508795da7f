"""Trains the prefilter in front of P-Net and writes its weights.

    python -m faceattr_udf.training.prefilter --data FOLDER --output FOLDER

FOLDER/faces-train.parquet and faces-val.parquet hold labeled faces, FOLDER/photos holds photographs. Every second
photograph is used for training; the others, and all named group-*, are kept for measurements. Takes twenty minutes on
one core.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import torch

from faceattr_udf.errors import FaceattrError
from faceattr_udf.training.prefilter.run import PrefilterSettings, train_prefilter


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 when the data are wrong."""
    defaults = PrefilterSettings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--scenes", type=int, default=defaults.scenes, help="training scenes")
    parser.add_argument("--validation-scenes", type=int, default=defaults.validation_scenes)
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--recall", type=float, default=defaults.recall, help="share of validation faces to keep")
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    settings = PrefilterSettings(arguments.scenes, arguments.validation_scenes, arguments.steps, arguments.recall)
    try:
        train_prefilter(arguments.data, arguments.output, settings)
    except FaceattrError as error:
        sys.stderr.write(f"prefilter: {error}\n")
        return 2
    return 0
