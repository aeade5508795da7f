"""A fake analyzer: its results are derived from the bytes, and it writes a line to a file for every image."""

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceattr_udf.config import Config
from faceattr_udf.isolation import IsolatedAnalyzer
from faceattr_udf.results import AgePrediction, BoundingBox, ClassPrediction, Face, ImageResult, ImageStatus, Quality
from faceattr_udf.spark.udf import AnalyzerProvider


def content(n_faces: int, seed: str = "") -> bytes:
    """Returns bytes in which the fake finds `n_faces` faces."""
    return f"{n_faces}|{seed}".encode()


def face(index: int, seed: bytes) -> Face:
    value = hashlib.sha256(seed + bytes([index])).digest()[0] / 256
    probs = {"female": value, "male": 1 - value}
    label = max(probs, key=lambda name: probs[name])
    return Face(
        face_index=index,
        bbox=BoundingBox(1.0 * index, 2.0, 30.0, 40.5),
        det_confidence=0.5 + value / 2,
        quality=Quality(28.0, value, 0.5, -3.0, 4.0, 0.25),
        landmarks=np.arange(10, dtype=np.float32).reshape(5, 2),
        age=AgePrediction(
            None if index == 1 else 100 * value,
            20.0,
            30.0,
            None if index == 1 else "20-29",
            {"20-29": 0.75, "30-39": 0.25},
        ),
        gender=ClassPrediction(label, probs[label], probs),
        emotion=ClassPrediction(None, 0.25, {"neutral": 0.25, "fear": 0.75}),
        crop=b"jpeg",
    )


@dataclass(frozen=True)
class FakeAnalyzer:
    seen: Path
    bias: str

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        with self.seen.open("a", encoding="utf-8") as file:
            digests = (hashlib.sha256(content).hexdigest() for content in contents if content is not None)
            file.writelines(f"{digest} {os.getppid()}\n" for digest in digests)
        return [self._one(content) for content in contents]

    def _one(self, content: bytes | None) -> ImageResult:
        if content is None:
            return ImageResult(ImageStatus.MISSING, "no content")
        if content.startswith(b"model error"):
            return ImageResult(ImageStatus.MODEL_ERROR, "a network failed on this image")
        if not content[:1].isdigit():
            return ImageResult(ImageStatus.CORRUPT, "not an image")
        n_faces = int(content[:1])
        seed = content + self.bias.encode()
        faces = tuple(face(index, seed) for index in range(n_faces))
        return ImageResult(ImageStatus.OK if faces else ImageStatus.NO_FACE, None, 64, 48, faces)


@dataclass(frozen=True)
class Load:
    """A dataclass, so that it can be pickled and equal ones share a pool in a process."""

    seen: str
    bias: str

    def __call__(self, config: Config, threads: int, device: str) -> FakeAnalyzer:  # noqa: ARG002
        return FakeAnalyzer(Path(self.seen), self.bias)


@dataclass(frozen=True)
class LoadAndRecord(Load):
    """Also writes a line for every loaded analyzer: its process and its device."""

    def __call__(self, config: Config, threads: int, device: str) -> FakeAnalyzer:
        with Path(f"{self.seen}-loads").open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {device}\n")
        return super().__call__(config, threads, device)


@dataclass(frozen=True)
class Version:
    version: str

    def __call__(self, config: Config) -> str:  # noqa: ARG002
        return self.version


@dataclass(frozen=True)
class LoadIsolated:
    """Loads tests/scripted_analyzer.py in a child process; workers do not have its folder on their path."""

    folder: str

    def __call__(self, config: Config, threads: int, device: str) -> IsolatedAnalyzer:  # noqa: ARG002
        if self.folder not in sys.path:
            sys.path.append(self.folder)
        from scripted_analyzer import ScriptedAnalyzer

        return IsolatedAnalyzer(ScriptedAnalyzer, config.runtime.batch_seconds)


def scripted_provider() -> AnalyzerProvider:
    return AnalyzerProvider(LoadIsolated(str(Path(__file__).parent)), Version("scripted-1"))


def provider(seen: Path, version: str = "fake-1") -> AnalyzerProvider:
    return AnalyzerProvider(Load(str(seen), version), Version(version))


def recording_provider(seen: Path) -> AnalyzerProvider:
    return AnalyzerProvider(LoadAndRecord(str(seen), "fake-1"), Version("fake-1"))


def loads(seen: Path) -> list[tuple[int, str]]:
    """Returns process and device of every analyzer that `recording_provider` loaded."""
    lines = Path(f"{seen}-loads").read_text(encoding="utf-8").splitlines()
    return [(int(process), device) for process, device in (line.split() for line in lines)]


def inferred(seen: Path) -> list[str]:
    """Returns the hashes of the analyzed contents, in order."""
    return [digest for digest, _ in _lines(seen)]


def parents(seen: Path) -> set[str]:
    """Returns the parents of the processes that analyzed; on Spark one per executor."""
    return {parent for _, parent in _lines(seen)}


def _lines(seen: Path) -> list[list[str]]:
    return [line.split() for line in seen.read_text(encoding="utf-8").splitlines()] if seen.exists() else []
