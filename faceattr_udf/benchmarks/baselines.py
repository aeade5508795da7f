"""The others, on the same photographs: facenet-pytorch's MTCNN, by itself and in the UDF that one writes first."""

import io
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from facenet_pytorch import MTCNN
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection.boxes import overlaps
from faceattr_udf.errors import ConfigError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


class FacenetDetector:
    """facenet-pytorch's MTCNN with the settings of a `DetectorConfig`."""

    def __init__(self, config: DetectorConfig) -> None:
        """Loads the networks that facenet-pytorch carries."""
        self._mtcnn: Any = MTCNN(
            keep_all=True,
            min_face_size=config.min_face_size,
            thresholds=list(config.thresholds),
            factor=config.scale_factor,
            device="cpu",
        )

    def detect(self, images: Sequence[UInt8Array]) -> list[FloatArray]:
        """Boxes float32 (n, 4) of every image: x_min, y_min, x_max, y_max in pixels; one image at a time."""
        return [_boxes(self._mtcnn.detect(image)[0]) for image in images]

    def detect_batched(self, images: Sequence[UInt8Array]) -> list[FloatArray]:
        """The same, all images in one call; they must be of one size."""
        return [_boxes(boxes) for boxes in self._mtcnn.detect(np.stack(images))[0]]

    def operations(self, images: Sequence[UInt8Array]) -> int:
        """Floating-point operations of all its convolutions and products of matrices: two per multiply-add."""
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            self.detect(images)
        return int(counter.get_total_flops())


@contextmanager
def deepface(python: Path, contents: Sequence[bytes]) -> Iterator[Callable[[], int]]:
    """Runs DeepFace in another environment; see `deepface_peer`.

    Args:
        python: That environment's interpreter.
        contents: Encoded photographs.

    Yields:
        What analyses all of them, four attributes each, and returns how many faces it found.

    Raises:
        ConfigError: It does not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.jpg" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        script = Path(__file__).with_name("deepface_baseline.py")
        command = [str(python), str(script), *map(str, paths)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:  # noqa: S603 - the user names it
            while _answer(process) != "ready":
                pass  # TensorFlow may have something to say first

            def run() -> int:
                assert process.stdin is not None  # noqa: S101 - narrows the type
                process.stdin.write("again\n")
                process.stdin.flush()
                return int(_answer(process))

            yield run


def _answer(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None  # noqa: S101 - narrows the type
    line = process.stdout.readline()
    if not line:
        msg = 'DeepFace has ended; its environment needs: pip install "deepface[tensorflow]" tf-keras flask mtcnn'
        raise ConfigError(msg)
    return line.strip()


def naive_detection(spark: "SparkSession", table: Path) -> int:
    """Finds the faces of a Parquet table as a first version of a job would: mapInPandas, image by image, nothing else.

    Args:
        spark: A session; what limits threads in its workers is its own affair.
        table: Folder with a column `content`.

    Returns:
        Faces found.
    """
    from pyspark.sql import functions as F  # noqa: N812, PLC0415  # Spark's own convention; the others run without it

    def detect(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        torch.set_num_threads(1)
        mtcnn: Any = MTCNN(keep_all=True, device="cpu")
        for frame in frames:
            found = [mtcnn.detect(Image.open(io.BytesIO(content)).convert("RGB"))[0] for content in frame["content"]]
            yield pd.DataFrame({"n_faces": [len(_boxes(boxes)) for boxes in found]})

    images = spark.read.parquet(str(table)).select("content")
    total = images.mapInPandas(detect, "n_faces int").agg(F.sum("n_faces")).first()
    return int(total[0]) if total else 0


def _boxes(found: Any) -> FloatArray:  # noqa: ANN401 - None or an array, of objects where images differ
    return np.zeros((0, 4), np.float32) if found is None else np.asarray(found, dtype=np.float32).reshape(-1, 4)


def partners(ours: FloatArray, theirs: FloatArray, least: float = 0.9) -> list[tuple[int, int]]:
    """Boxes of two sets that are one face: nearest first, each used once, intersection over union `least` or more.

    Args:
        ours: float32 (n, 4): x_min, y_min, x_max, y_max in pixels.
        theirs: float32 (m, 4).
        least: The overlap that counts.

    Returns:
        Places in `ours` and in `theirs`.

    >>> box = np.array([[0, 0, 10, 10]], dtype=np.float32)
    >>> partners(box, np.concatenate([box + 5, box])), partners(box, box + 5)
    ([(0, 1)], [])
    """
    overlap = overlaps(ours, theirs)
    pairs = []
    while overlap.size and overlap.max() >= least:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        overlap[row], overlap[:, column] = 0.0, 0.0
        pairs.append((int(row), int(column)))
    return pairs


def agreement(ours: FloatArray, theirs: FloatArray, least: float = 0.9) -> tuple[int, int]:
    """How many boxes have a partner in the other set, see `partners`.

    Returns:
        Pairs found, and the size of the larger set: equal where both found the same faces.
    """
    return len(partners(ours, theirs, least)), max(len(ours), len(theirs))


def agreement_of_all(ours: Sequence[FloatArray], theirs: Sequence[FloatArray]) -> tuple[int, int]:
    """The sums of `agreement` over images."""
    counts = [agreement(mine, other) for mine, other in zip(ours, theirs, strict=True)]
    return sum(pairs for pairs, _ in counts), sum(faces for _, faces in counts)
