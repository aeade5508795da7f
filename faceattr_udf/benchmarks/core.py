"""One core, no Spark: detection and the whole analysis against their peers and the machine's limit."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.attributes.predictor import load_predictor
from faceattr_udf.benchmarks.baselines import FacenetDetector, UInt8Array, agreement_of_all, deepface
from faceattr_udf.benchmarks.timing import take_turns
from faceattr_udf.config import Config
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.images.decode import decode_image

FACES = 64


def detection(images: Sequence[UInt8Array], config: Config, rounds: int, gemm: float) -> dict[str, Any]:
    """Our detector against facenet-pytorch's on decoded photographs, and whether both find the same faces.

    Args:
        images: uint8 (height, width, 3) RGB.
        config: Its detector section holds for both.
        rounds: How often each runs over all photographs.
        gemm: Floating-point operations per second that the machine's matrix product reaches.
    """
    ours, theirs = Detector(config.detector), FacenetDetector(config.detector)
    everywhere = Detector(config.detector.model_copy(update={"screen": False}))
    contenders = {
        "ours": lambda: ours.detect(images),
        "ours_without_screen": lambda: everywhere.detect(images),
        "facenet_pytorch": lambda: theirs.detect(images),
    }
    # It batches images of one size only.
    cropped = _one_size(images)
    batched = {"facenet_pytorch": lambda: theirs.detect(cropped), "batched": lambda: theirs.detect_batched(cropped)}
    times = take_turns(contenders, rounds, len(images))
    batches = take_turns(batched, max(2, rounds // 3), len(images))
    reference = theirs.detect(images)

    def same(detector: Detector) -> dict[str, int]:
        pairs, faces = agreement_of_all([found.boxes for found in detector.detect(images)], reference)
        return {"pairs": pairs, "faces": faces}

    operations = theirs.operations(images) / len(images)
    limit = 1000.0 * operations / gemm
    milliseconds = {name: times.milliseconds(name) for name in contenders}
    return {
        "photographs": len(images),
        "milliseconds_per_photograph": milliseconds,
        "times_as_fast_as_facenet_pytorch": times.ratio("facenet_pytorch", "ours"),
        "times_as_fast_without_screen": times.ratio("facenet_pytorch", "ours_without_screen"),
        "facenet_pytorch_batched_against_not": batches.ratio("facenet_pytorch", "batched"),
        "same_faces": same(ours),
        "same_faces_without_screen": same(everywhere),
        "giga_operations_per_photograph": round(operations / 1e9, 2),
        "limit_milliseconds": round(limit, 1),
        "against_limit": round(milliseconds["ours"]["median"] / limit, 2),
        "against_limit_without_screen": round(milliseconds["ours_without_screen"]["median"] / limit, 2),
    }


def analysis(contents: Sequence[bytes], config: Config, rounds: int, python: Path | None = None) -> dict[str, Any]:
    """Everything from encoded photographs to four attributes, against facenet-pytorch's detection alone and DeepFace.

    Args:
        contents: Encoded photographs.
        config: Of our analyzer; its detector section holds for facenet-pytorch, too.
        rounds: How often each runs over all photographs; DeepFace a third as often.
        python: The interpreter of an environment with DeepFace; None leaves it out.
    """
    analyzer, theirs = FaceAnalyzer.from_config(config), FacenetDetector(config.detector)
    images = [decode_image(content, config.images) for content in contents]
    contenders: dict[str, Callable[[], Any]] = {
        "ours": lambda: analyzer.analyze(contents),
        "decoding": lambda: [decode_image(content, config.images) for content in contents],
        "facenet_pytorch_detection": lambda: theirs.detect(images),
    }
    times = take_turns(contenders, rounds, len(contents))
    figures = {
        "photographs": len(contents),
        "faces": sum(result.n_faces for result in analyzer.analyze(contents)),
        "milliseconds_per_photograph": {name: times.milliseconds(name) for name in contenders},
        "times_as_fast_as_facenet_pytorch_detection": times.ratio("facenet_pytorch_detection", "ours"),
    }
    if python:
        with deepface(python, contents) as theirs_whole:
            pair = {"ours": contenders["ours"], "deepface": theirs_whole}
            times = take_turns(pair, max(1, rounds // 3), len(contents), warm_up=False)
            figures["deepface"] = {
                "faces": theirs_whole(),
                "milliseconds_per_photograph": {name: times.milliseconds(name) for name in pair},
                "times_as_fast_as_deepface": times.ratio("deepface", "ours"),
            }
    return figures


def network(config: Config, rounds: int, gemm: float) -> dict[str, Any]:
    """The attribute network alone, 64 faces together."""
    predictor = load_predictor(config.attributes)
    side = predictor.record.input_size
    faces = np.random.default_rng(0).integers(0, 256, (FACES, side, side, 3), dtype=np.uint8)
    times = take_turns({"ours": lambda: predictor.predict(faces)}, rounds, FACES)
    milliseconds = times.milliseconds("ours")
    return {
        "model": config.attributes.model,
        "input_size": side,
        "milliseconds_per_face": milliseconds,
        # What it would be where the matrix product is that fast: the figure that machines can be compared by.
        "at_175_gflops": round(milliseconds["median"] * gemm / 175e9, 3),
    }


def loading(config: Config) -> dict[str, float]:
    """Seconds from the start of a Python process until an analyzer is ready in it: what a Spark worker pays once."""
    code = (
        "import sys; from faceattr_udf.analyzer import FaceAnalyzer; from faceattr_udf.config import Config; "
        "FaceAnalyzer.from_config(Config.model_validate_json(sys.argv[1]))"
    )
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        command = [sys.executable, "-c", code, config.model_dump_json()]
        subprocess.run(command, check=True)  # noqa: S603 - this interpreter and the code above
        seconds.append(time.perf_counter() - started)
    return {"seconds": round(statistics.median(seconds), 2)}


def _one_size(images: Sequence[UInt8Array]) -> list[UInt8Array]:
    height, width = (min(image.shape[axis] for image in images) for axis in (0, 1))
    return [np.ascontiguousarray(image[:height, :width]) for image in images]
