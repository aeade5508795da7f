"""The section `web`: photographs of all sizes, each seen once, on one core, against facenet-pytorch's detection."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from operator import truediv
from pathlib import Path
from typing import Any, Final

import numpy as np

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.arrays import UInt8Array
from faceattr_udf.benchmarks.baselines import FacenetDetector
from faceattr_udf.benchmarks.stages import stage_times
from faceattr_udf.benchmarks.timing import Times, time_interleaved
from faceattr_udf.benchmarks.web_photographs import SIZE_CLASSES, Shape, cut_photographs, large_enough
from faceattr_udf.config import Config
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.images.decode import decode_image

MIXED: Final = "all sizes"
"""Photographs of all classes in one batch, in random order."""

_OURS: Final = "ours"
_DETECTION: Final = "our_detection"
_THEIRS: Final = "facenet_pytorch_detection"


def web(contents: Sequence[bytes], config: Config, rounds: int, number: int, gemm: float) -> dict[str, Any]:
    """Compares our whole analysis and our detection with facenet-pytorch's detection, by size of the photographs.

    Every round has photographs of its own, so each size is new to all contenders ("cold"); then it takes the same ones
    once more ("again"). Times are CPU times, as every contender has one thread. A batch is one call of ours;
    facenet-pytorch takes its photographs one by one, because it only batches images of one size.

    Args:
        contents: Encoded photographs to cut from.
        config: Configures our analyzer; its detector section applies to all contenders.
        rounds: Number of batches of each class.
        number: Photographs of a batch.
        gemm: The machine's rate of matrix multiplication, see `machine.gemm_rate`.

    Returns:
        Class -> milliseconds, ratios, numbers of faces, and the share of each stage.
    """
    cutter = _Cutter([decode_image(content, config.images) for content in contents], number)
    contenders = _Contenders(config)
    contenders.warm_up(cutter.batch(MIXED))
    classes = {name: contenders.measure([cutter.batch(name) for _ in range(rounds)], gemm) for name in cutter.names}
    memory = _memory(cutter.batch(MIXED), config)
    return {"photographs": rounds * number, "classes": classes, "memory_mib": memory}


class _Cutter:
    """Cuts batches of photographs, no two of the same size."""

    def __init__(self, sources: Sequence[UInt8Array], number: int) -> None:
        self._sources = {size: chosen for size in SIZE_CLASSES if (chosen := large_enough(sources, size))}
        self._number = number
        self._random = np.random.default_rng(0)
        self._taken: set[Shape] = set()
        self.names = (*(size.name for size in self._sources), MIXED)

    def batch(self, name: str) -> list[bytes]:
        """Returns a batch of a class, or of all classes, in random order."""
        sizes = [size for size in self._sources if name in {size.name, MIXED}]
        each = -(-self._number // len(sizes))
        batch = [
            photograph
            for size in sizes
            for photograph in cut_photographs(self._sources[size], size, each, self._random, self._taken)
        ]
        return [batch[index] for index in self._random.permutation(len(batch))]


class _Contenders:
    """Our analyzer, our detector and facenet-pytorch's, loaded once."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._analyzer = FaceAnalyzer.from_config(config)
        self._detector = Detector(config.detector)
        self._theirs = FacenetDetector(config.detector)

    def warm_up(self, batch: Sequence[bytes]) -> None:
        """Runs all contenders on photographs that are not measured."""
        for run in self._runs(batch, self._decode(batch)).values():
            run()

    def measure(self, batches: Sequence[Sequence[bytes]], gemm: float) -> dict[str, Any]:
        """Measures batches that no contender has seen yet, each twice."""
        cold: dict[str, list[float]] = {_OURS: [], _DETECTION: [], _THEIRS: []}
        again: dict[str, list[float]] = {name: [] for name in cold}
        faces = dict.fromkeys((_OURS, _THEIRS), 0)
        spent: Counter[str] = Counter()
        operations = 0
        for batch in batches:
            images = self._decode(batch)
            runs = self._runs(batch, images)
            with stage_times() as stages:
                started = time.process_time()
                results = runs[_OURS]()
                cold[_OURS].append(time.process_time() - started)
            spent += stages
            others = {name: run for name, run in runs.items() if name != _OURS}
            for some, times in ((others, cold), (runs, again)):
                measured = time_interleaved(some, 1, len(batch), warm_up=False, clock=time.process_time)
                for name, seconds in measured.seconds.items():
                    times[name] += seconds
            faces[_OURS] += sum(result.n_faces for result in results)
            faces[_THEIRS] += sum(map(len, self._theirs.detect(images)))
            operations += self._theirs.count_operations(images)
        number = len(batches[0])
        units = dict.fromkeys(cold, number)
        first, second = Times(cold, units), Times(again, units)
        total = number * len(batches)
        networks = {name: spent[name] / 1e6 / total for name in sorted(spent)}
        rest = 1000.0 * sum(cold[_OURS]) / total - sum(networks.values())
        return {
            "milliseconds_per_photograph": {name: first.milliseconds(name) for name in cold},
            "milliseconds_again": {name: second.milliseconds(name) for name in again},
            "times_as_fast_as_facenet_pytorch_detection": first.ratio(_THEIRS, _OURS),
            "detection_times_as_fast": first.ratio(_THEIRS, _DETECTION),
            "again_times_as_fast_as_facenet_pytorch_detection": second.ratio(_THEIRS, _OURS),
            "cold_against_again": round(statistics.median(map(truediv, cold[_OURS], again[_OURS])), 2),
            "faces": faces,
            "stages_milliseconds": {name: round(ms, 2) for name, ms in {**networks, "rest": rest}.items()},
            "detection_at_the_float32_limit_milliseconds": round(1000.0 * operations / gemm / total, 1),
        }

    def _decode(self, batch: Sequence[bytes]) -> list[UInt8Array]:
        return [decode_image(content, self._config.images) for content in batch]

    def _runs(self, batch: Sequence[bytes], images: Sequence[UInt8Array]) -> dict[str, Callable[[], Any]]:
        return {
            _OURS: lambda: self._analyzer.analyze(batch),
            _DETECTION: lambda: self._detector.detect(images),
            _THEIRS: lambda: self._theirs.detect(images),
        }


def _memory(batch: Sequence[bytes], config: Config) -> float:
    """Measures the peak memory, MiB, of a process that analyzes a batch and loads nothing else; on Linux only.

    The kernel's counter of the process, not `ru_maxrss`, which a new process takes over from this one.
    """
    code = (
        "import sys; from pathlib import Path; from faceattr_udf.analyzer import FaceAnalyzer; "
        "from faceattr_udf.config import Config; "
        "analyzer = FaceAnalyzer.from_config(Config.model_validate_json(sys.argv[1])); "
        "analyzer.analyze([path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())]); "
        "status = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines()); "
        "print(status['VmHWM'].split()[0])"
    )
    with tempfile.TemporaryDirectory() as folder:
        for index, photograph in enumerate(batch):
            Path(folder, f"{index:04}.jpg").write_bytes(photograph)
        command = [sys.executable, "-c", code, config.model_dump_json(), folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - the code above
    return round(int(done.stdout) / 1024, 1)
