"""Benchmarks on one core without Spark: detection, the whole analysis, the attribute network and loading."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.arrays import UInt8Array
from faceattr_udf.attributes.predictor import load_predictor
from faceattr_udf.benchmarks.baselines import FacenetDetector, deepface
from faceattr_udf.benchmarks.timing import time_interleaved
from faceattr_udf.config import Config
from faceattr_udf.detection.matching import count_matches
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.images.decode import decode_image

BATCH = 64
"""Faces per call of the attribute network."""


def detection(images: Sequence[UInt8Array], config: Config, rounds: int, gemm: float) -> dict[str, Any]:
    """Compares our detector with facenet-pytorch's on decoded photographs: speed, and whether faces are the same.

    Args:
        images: uint8 (height, width, 3) RGB.
        config: Its detector section applies to both detectors.
        rounds: How often each detector processes all photographs.
        gemm: The machine's rate of matrix multiplication, see `machine.gemm_rate`.
    """
    ours, theirs = Detector(config.detector), FacenetDetector(config.detector)
    unfiltered = Detector(config.detector.model_copy(update={"prefilter": False}))
    contenders = {
        "ours": lambda: ours.detect(images),
        "ours_without_prefilter": lambda: unfiltered.detect(images),
        "facenet_pytorch": lambda: theirs.detect(images),
    }
    # facenet-pytorch only batches images of one size.
    cropped = _crop_to_one_size(images)
    batched = {"facenet_pytorch": lambda: theirs.detect(cropped), "batched": lambda: theirs.detect_batched(cropped)}
    times = time_interleaved(contenders, rounds, len(images))
    batch_times = time_interleaved(batched, max(2, rounds // 3), len(images))
    reference = theirs.detect(images)

    def same_faces(detector: Detector) -> dict[str, int]:
        pairs, faces = count_matches([found.boxes for found in detector.detect(images)], reference)
        return {"pairs": pairs, "faces": faces}

    operations = theirs.count_operations(images) / len(images)
    limit = 1000.0 * operations / gemm
    milliseconds = {name: times.milliseconds(name) for name in contenders}
    return {
        "photographs": len(images),
        "milliseconds_per_photograph": milliseconds,
        "times_as_fast_as_facenet_pytorch": times.ratio("facenet_pytorch", "ours"),
        "times_as_fast_without_prefilter": times.ratio("facenet_pytorch", "ours_without_prefilter"),
        "facenet_pytorch_batched_against_not": batch_times.ratio("facenet_pytorch", "batched"),
        "same_faces": same_faces(ours),
        "same_faces_without_prefilter": same_faces(unfiltered),
        "giga_operations_per_photograph": round(operations / 1e9, 2),
        "limit_milliseconds": round(limit, 1),
        "against_limit": round(milliseconds["ours"]["median"] / limit, 2),
        "against_limit_without_prefilter": round(milliseconds["ours_without_prefilter"]["median"] / limit, 2),
    }


def analysis(contents: Sequence[bytes], config: Config, rounds: int, python: Path | None = None) -> dict[str, Any]:
    """Compares the whole analysis of encoded photographs with facenet-pytorch's detection alone and with DeepFace.

    Args:
        contents: Encoded photographs.
        config: Configures our analyzer; its detector section applies to facenet-pytorch, too.
        rounds: How often each contender processes all photographs; a third as often for DeepFace.
        python: The interpreter of an environment with DeepFace; None skips DeepFace.
    """
    analyzer, theirs = FaceAnalyzer.from_config(config), FacenetDetector(config.detector)
    images = [decode_image(content, config.images) for content in contents]
    contenders: dict[str, Callable[[], Any]] = {
        "ours": lambda: analyzer.analyze(contents),
        "decoding": lambda: [decode_image(content, config.images) for content in contents],
        "facenet_pytorch_detection": lambda: theirs.detect(images),
    }
    times = time_interleaved(contenders, rounds, len(contents))
    measurements = {
        "photographs": len(contents),
        "faces": sum(result.n_faces for result in analyzer.analyze(contents)),
        "milliseconds_per_photograph": {name: times.milliseconds(name) for name in contenders},
        "times_as_fast_as_facenet_pytorch_detection": times.ratio("facenet_pytorch_detection", "ours"),
    }
    if python:
        with deepface(python, contents) as run_deepface:
            pair = {"ours": contenders["ours"], "deepface": run_deepface}
            times = time_interleaved(pair, max(1, rounds // 3), len(contents), warm_up=False)
            measurements["deepface"] = {
                "faces": run_deepface(),
                "milliseconds_per_photograph": {name: times.milliseconds(name) for name in pair},
                "times_as_fast_as_deepface": times.ratio("deepface", "ours"),
            }
    return measurements


def network(config: Config, rounds: int, gemm: float) -> dict[str, Any]:
    """Measures the attribute network alone on batches of `BATCH` faces.

    Args:
        config: Its attributes section names the model.
        rounds: How often the batch is predicted.
        gemm: The machine's rate of matrix multiplication, see `machine.gemm_rate`.
    """
    predictor = load_predictor(config.attributes)
    side = predictor.record.input_size
    faces = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8)
    milliseconds = time_interleaved({"ours": lambda: predictor.predict(faces)}, rounds, BATCH).milliseconds("ours")
    return {
        "model": config.attributes.model,
        "input_size": side,
        "milliseconds_per_face": milliseconds,
        # Scaled to a core with 175 GFLOP/s, so that machines can be compared.
        "at_175_gflops": round(milliseconds["median"] * gemm / 175e9, 3),
    }


def loading(config: Config) -> dict[str, float]:
    """Measures the seconds from the start of a Python process until its analyzer is ready: once per Spark worker."""
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


def _crop_to_one_size(images: Sequence[UInt8Array]) -> list[UInt8Array]:
    height, width = (min(image.shape[axis] for image in images) for axis in (0, 1))
    return [np.ascontiguousarray(image[:height, :width]) for image in images]
