"""Baselines for the benchmarks: facenet-pytorch's MTCNN, alone and in a naive Spark UDF, and DeepFace."""

import io
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from facenet_pytorch import MTCNN
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from faceattr_udf.arrays import Float32Array, UInt8Array
from faceattr_udf.config import DetectorConfig
from faceattr_udf.errors import ConfigError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class FacenetDetector:
    """facenet-pytorch's MTCNN with the settings of a `DetectorConfig`."""

    def __init__(self, config: DetectorConfig) -> None:
        """Loads the weights that facenet-pytorch ships."""
        self._mtcnn: Any = MTCNN(
            keep_all=True,
            min_face_size=config.min_face_size,
            thresholds=list(config.thresholds),
            factor=config.scale_factor,
            device="cpu",
        )

    def detect(self, images: Sequence[UInt8Array]) -> list[Float32Array]:
        """Detects faces image by image.

        Returns:
            Boxes of every image, float32 (n, 4): x_min, y_min, x_max, y_max in pixels.
        """
        return [_boxes(self._mtcnn.detect(image)[0]) for image in images]

    def detect_batched(self, images: Sequence[UInt8Array]) -> list[Float32Array]:
        """Detects faces of all images in one call, like `detect`; the images must have the same size."""
        return [_boxes(boxes) for boxes in self._mtcnn.detect(np.stack(images))[0]]

    def count_operations(self, images: Sequence[UInt8Array]) -> int:
        """Counts the floating-point operations of all convolutions and matrix products; a multiply-add is two."""
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            self.detect(images)
        return int(counter.get_total_flops())


@contextmanager
def deepface(python: Path, contents: Sequence[bytes]) -> Iterator[Callable[[], int]]:
    """Runs DeepFace in a process of another environment; see `deepface_baseline`.

    Args:
        python: The interpreter of that environment.
        contents: Encoded photographs.

    Yields:
        A function that analyzes four attributes on all photographs and returns the number of faces.

    Raises:
        ConfigError: DeepFace does not start.
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
                pass  # skip what TensorFlow prints when it starts

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
        msg = 'DeepFace ended; install in its environment: pip install "deepface[tensorflow]" tf-keras flask mtcnn'
        raise ConfigError(msg)
    return line.strip()


def naive_detection(spark: "SparkSession", table: Path) -> int:
    """Detects the faces of a Parquet table as a first version of a job would: in mapInPandas, image by image.

    Args:
        spark: A session.
        table: Folder of a table with a column `content`.

    Returns:
        The number of faces.
    """
    from pyspark.sql import functions as F  # noqa: N812, PLC0415  # Spark's own convention; other baselines need no Spark

    def detect(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        torch.set_num_threads(1)
        mtcnn: Any = MTCNN(keep_all=True, device="cpu")
        for frame in frames:
            found = [mtcnn.detect(Image.open(io.BytesIO(content)).convert("RGB"))[0] for content in frame["content"]]
            yield pd.DataFrame({"n_faces": [len(_boxes(boxes)) for boxes in found]})

    images = spark.read.parquet(str(table)).select("content")
    total = images.mapInPandas(detect, "n_faces int").agg(F.sum("n_faces")).first()
    return int(total[0]) if total else 0


def _boxes(found: Any) -> Float32Array:  # noqa: ANN401 - None or an array, of objects where images differ
    return np.zeros((0, 4), np.float32) if found is None else np.asarray(found, dtype=np.float32).reshape(-1, 4)
