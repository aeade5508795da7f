"""A GPU against one core of the machine that it is in: the same networks, the same photographs, the same faces."""

from collections.abc import Sequence
from dataclasses import astuple
from functools import partial
from typing import Any

import numpy as np
import torch

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.attributes.predictor import load_predictor
from faceattr_udf.benchmarks.baselines import FloatArray, partners
from faceattr_udf.benchmarks.timing import take_turns
from faceattr_udf.config import Config
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.images.decode import decode_image
from faceattr_udf.inference.base import CPU
from faceattr_udf.results import Face, ImageResult

DEVICE = "cuda:0"
FACES = (64, 256, 1024)


def gpu(contents: Sequence[bytes], config: Config, rounds: int) -> dict[str, Any]:
    """Detection, the attribute network and the whole analysis on a GPU and on one core of the CPU, in turn.

    Args:
        contents: Encoded photographs.
        config: Of both; its `runtime.device` is not looked at.
        rounds: How often each runs over all photographs.

    Raises:
        EngineError: There is no GPU, or it cannot run the networks.
    """
    devices = {"gpu": DEVICE, "cpu": CPU}
    detectors = {name: Detector(config.detector, device=device) for name, device in devices.items()}
    predictors = {name: load_predictor(config.attributes, device=device) for name, device in devices.items()}
    analyzers = {name: FaceAnalyzer(config, detectors[name], predictors[name]) for name in devices}
    images = [decode_image(content, config.images) for content in contents]
    detection = take_turns({name: partial(one.detect, images) for name, one in detectors.items()}, rounds, len(images))
    analysis = take_turns(
        {name: partial(one.analyze, contents) for name, one in analyzers.items()}, rounds, len(contents)
    )
    side, random = predictors["cpu"].record.input_size, np.random.default_rng(0)
    network = {}
    for count in FACES:
        faces = random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        times = take_turns({name: partial(one.predict, faces) for name, one in predictors.items()}, rounds, count)
        network[str(count)] = {
            "milliseconds_per_face": {name: times.milliseconds(name) for name in predictors},
            "times_as_fast_as_a_core": times.ratio("cpu", "gpu"),
        }
    theirs, ours = analyzers["cpu"].analyze(contents), analyzers["gpu"].analyze(contents)
    return {
        "name": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "photographs": len(contents),
        "detection_milliseconds_per_photograph": {name: detection.milliseconds(name) for name in detectors},
        "detection_times_as_fast_as_a_core": detection.ratio("cpu", "gpu"),
        "analysis_milliseconds_per_photograph": {name: analysis.milliseconds(name) for name in analyzers},
        "analysis_times_as_fast_as_a_core": analysis.ratio("cpu", "gpu"),
        "faces_together": network,
        "same": same(ours, theirs),
    }


def same(ours: Sequence[ImageResult], theirs: Sequence[ImageResult]) -> dict[str, int]:
    """How many faces both found, and how many of them got the same class of every attribute.

    >>> same([], [])
    {'faces': 0, 'pairs': 0, 'equal': 0}
    """
    faces = pairs = equal = 0
    for mine, other in zip(ours, theirs, strict=True):
        faces += max(mine.n_faces, other.n_faces)
        for one, two in partners(_boxes(mine), _boxes(other)):
            pairs += 1
            equal += _labels(mine.faces[one]) == _labels(other.faces[two])
    return {"faces": faces, "pairs": pairs, "equal": equal}


def _labels(face: Face) -> list[str | None]:
    return [getattr(getattr(face, name), "label", None) for name in CLASSES]


def _boxes(result: ImageResult) -> FloatArray:
    return np.array([astuple(face.bbox) for face in result.faces], dtype=np.float32).reshape(-1, 4)
