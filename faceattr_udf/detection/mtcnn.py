"""The MTCNN cascade: proposals on a pyramid, then two refinements, over a batch of images at once.

Zhang, Zhang, Li, Qiao 2016, "Joint Face Detection and Alignment using Multitask Cascaded Convolutional Networks",
with the weights that facenet-pytorch publishes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection import boxes as box_ops
from faceattr_udf.detection.boxes import FloatArray, IntArray
from faceattr_udf.detection.prefilter import NAME as SCREEN
from faceattr_udf.detection.proposals import Candidates, Proposer
from faceattr_udf.detection.pyramid import SummedAreas
from faceattr_udf.inference.base import CPU, Network
from faceattr_udf.inference.loading import load_network
from faceattr_udf.weights import load_record

UInt8Array = npt.NDArray[np.uint8]

STAGES: Final = ("mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet")
_OVERLAP = 0.7
# Candidates per network call: bounds the memory of a crowd.
# It is the same on a GPU, whose memory several tasks may share: O-Net takes a third of a gigabyte for so many.
_CHUNK = 512
# Pixels of images whose candidates go through the networks together. Small images gain from company; the tables of
# large ones would push each other out of the processor's cache, which costs an eighth.
_TOGETHER = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The faces of one image as parallel arrays, by falling area.

    Attributes:
        boxes: float32 (n, 4): x_min, y_min, x_max, y_max in pixels; may reach over the frame.
        confidences: float32 (n,), probability of being a face.
        landmarks: float32 (n, 5, 2), x and y in pixels: left eye, right eye, nose, left and right mouth corner, where
            left is left in the picture.
    """

    boxes: FloatArray
    confidences: FloatArray
    landmarks: FloatArray

    def __len__(self) -> int:
        """How many faces."""
        return len(self.boxes)


def detector_version(*, screen: bool = False) -> str:
    """Names the weights in use: changes exactly when one of the cascade's three networks, or of the screen's, does."""
    names = (*STAGES, SCREEN) if screen else STAGES
    return "mtcnn-" + "".join(load_record(name).version[:4] for name in names)


class Detector:
    """Finds faces; one instance per thread."""

    def __init__(self, config: DetectorConfig, threads: int = 1, device: str = CPU) -> None:
        """Loads and verifies the three networks.

        Args:
            config: Sizes, thresholds and limits.
            threads: CPU threads of one inference.
            device: Of the networks, "cpu" or "cuda:0"; everything between them is done on the CPU.

        Raises:
            WeightsError: A weights file is missing or altered.
            EngineError: The device cannot be used.
        """
        self.config = config
        self.proposer = Proposer(config, threads, device)
        self._rnet, self._onet = (load_network(stage, threads=threads, device=device) for stage in STAGES[1:])

    def detect(self, images: Sequence[UInt8Array]) -> list[Detections]:
        """Finds the faces of images of any mixture of sizes.

        Args:
            images: uint8 (height, width, 3) RGB each.

        Returns:
            One `Detections` per image, in order.
        """
        return [found for group in _groups(images) for found in self._detect_together(group)]

    def follow(self, table: SummedAreas, boxes: FloatArray) -> tuple[IntArray, FloatArray]:
        """What R-Net and O-Net make of proposals, each by itself: nothing is suppressed.

        Args:
            table: Of one image.
            boxes: float32 (n, 4), square proposals.

        Returns:
            Which of them pass both networks, int64 (m,), and their final boxes, float32 (m, 4).
        """
        # The scores carry who is who: stages reorder and drop.
        candidates = Candidates(boxes, np.arange(len(boxes), dtype=np.float32), np.zeros(len(boxes), dtype=np.int64))
        for network, threshold in ((self._rnet, self.config.thresholds[1]), (self._onet, self.config.thresholds[2])):
            candidates, (scores, offsets, *_) = self._run(network, candidates, [table])
            passed = scores > threshold
            candidates = candidates.take(passed)
            candidates.boxes = box_ops.regress(candidates.boxes, offsets[passed], inclusive=True)
            if network is self._rnet:
                candidates.boxes = box_ops.square(candidates.boxes)
        return candidates.scores.astype(np.int64), candidates.boxes

    def _detect_together(self, images: Sequence[UInt8Array]) -> list[Detections]:
        tables = [SummedAreas(image) for image in images]
        candidates = self.proposer.propose(tables)
        candidates = self._refine(candidates, tables)
        return self._finish(candidates, tables, len(images))

    def _refine(self, candidates: Candidates, tables: Sequence[SummedAreas]) -> Candidates:
        candidates, (scores, offsets) = self._run(self._rnet, candidates, tables)
        passed = scores > self.config.thresholds[1]
        candidates, offsets = candidates.take(passed), offsets[passed]
        candidates.scores = scores[passed]
        kept = box_ops.suppress(candidates.boxes, candidates.scores, candidates.images, _OVERLAP)
        candidates = candidates.take(kept)
        candidates.boxes = box_ops.square(box_ops.regress(candidates.boxes, offsets[kept], inclusive=True))
        return candidates

    def _finish(self, candidates: Candidates, tables: Sequence[SummedAreas], count: int) -> list[Detections]:
        candidates, (scores, offsets, points) = self._run(self._onet, candidates, tables)
        passed = scores > self.config.thresholds[2]
        candidates, offsets, points = candidates.take(passed), offsets[passed], points[passed]
        boxes = candidates.boxes
        sizes = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = points.reshape(-1, 2, 5).transpose(0, 2, 1) * sizes[:, None, :] + boxes[:, None, :2] - 1
        boxes = box_ops.regress(boxes, offsets, inclusive=True)
        scores = scores[passed]
        kept = box_ops.suppress_contained(boxes, scores, candidates.images, _OVERLAP)
        boxes, scores, landmarks, owners = boxes[kept], scores[kept], landmarks[kept], candidates.images[kept]
        limit = 1 if self.config.largest_only else self.config.max_faces
        results = []
        for index in range(count):
            mine = np.flatnonzero(owners == index)
            # Ties in area go to the more confident face: the order came from suppression.
            mine = mine[np.argsort(-box_ops.areas(boxes[mine]), kind="stable")]
            mine = mine[:limit] if limit else mine
            results.append(Detections(boxes[mine], scores[mine], landmarks[mine].astype(np.float32)))
        return results

    def _run(
        self, network: Network, candidates: Candidates, tables: Sequence[SummedAreas]
    ) -> tuple[Candidates, list[FloatArray]]:
        """Cuts every candidate of every image to the network's input and runs them together."""
        # MATLAB's 1-based inclusive pixels, as the networks were trained: pixel x covers [x - 1, x).
        pixels = np.trunc(candidates.boxes).astype(np.int64)
        frames = np.array([[table.width, table.height] for table in tables], dtype=np.int64).reshape(-1, 2)
        pixels[:, :2] -= 1
        clipped = np.concatenate(
            [np.maximum(pixels[:, :2], 0), np.minimum(pixels[:, 2:], frames[candidates.images])], axis=1
        )
        inside = np.logical_and.reduce(clipped[:, 2:] > clipped[:, :2], axis=1)
        if self.config.border == "clip":
            pixels = clipped
        candidates, pixels = candidates.take(inside), pixels[inside]
        # Grouped by image so that one gather serves all candidates of an image.
        order = np.argsort(candidates.images, kind="stable")
        candidates, pixels = candidates.take(order), pixels[order]
        size = network.record.input_size
        outputs: list[list[FloatArray]] = []
        if len(pixels) == 0:
            return candidates, [np.zeros((0, *shape), dtype=np.float32) for shape in network.output_shapes]
        for start in range(0, len(pixels), _CHUNK):
            chunk, owners = pixels[start : start + _CHUNK], candidates.images[start : start + _CHUNK]
            inputs = [tables[int(index)].resize(chunk[owners == index], size) for index in np.unique(owners)]
            outputs.append(network(np.concatenate(inputs)))
        return candidates, [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def _groups(images: Sequence[UInt8Array]) -> Iterator[Sequence[UInt8Array]]:
    first, pixels = 0, 0
    for index, image in enumerate(images):
        size = image.shape[0] * image.shape[1]
        if index > first and pixels + size > _TOGETHER:
            yield images[first:index]
            first, pixels = index, 0
        pixels += size
    if images:
        yield images[first:]
