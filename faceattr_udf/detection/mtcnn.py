"""The MTCNN cascade: proposals from an image pyramid, then two refinement stages, over a batch of images.

Zhang, Zhang, Li, Qiao 2016, "Joint Face Detection and Alignment using Multitask Cascaded Convolutional Networks",
with the weights that facenet-pytorch publishes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from faceattr_udf.arrays import Float32Array, Int64Array, UInt8Array
from faceattr_udf.config import DetectorConfig
from faceattr_udf.detection import boxes as box_ops
from faceattr_udf.detection.integral_image import IntegralImage
from faceattr_udf.detection.prefilter import WEIGHTS_NAME as PREFILTER
from faceattr_udf.detection.proposals import Candidates, Proposer
from faceattr_udf.detection.rotations import turn_boxes, turn_image, turn_points
from faceattr_udf.inference.base import CPU, Network
from faceattr_udf.inference.loading import load_network
from faceattr_udf.weights import load_record

STAGES: Final = ("mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet")

MAX_BATCH_PIXELS: Final = 1_000_000
"""Most pixels of images whose candidates go through the networks together.

Small images are faster together; the integral images of large ones would evict each other from the processor's cache,
which costs an eighth of the time.
"""

_NMS_OVERLAP: Final = 0.7
"""NMS threshold of both refinement stages (IoU, then IoS), from the reference implementation."""

_SURE: Final = 0.99
"""An image with an upright face of this confidence is not turned; turned faces are found too, with a lower one."""

_CANDIDATE_BATCH: Final = 512
"""Candidates per network call, which bounds the memory that an image of a crowd needs.

The same on a GPU, whose memory several tasks may share: O-Net takes a third of a gigabyte for this batch.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The faces of one image as parallel arrays, by decreasing area.

    Attributes:
        boxes: float32 (n, 4): x_min, y_min, x_max, y_max in pixels; may extend beyond the frame.
        confidences: float32 (n,), probability of being a face.
        landmarks: float32 (n, 5, 2), x and y in pixels: left eye, right eye, nose, left and right mouth corner, where
            left is left in the image turned by `rotation`.
        rotation: By how many degrees the image must be turned clockwise for its faces to be upright: 0, or one of
            `detector.rotations`.
    """

    boxes: Float32Array
    confidences: Float32Array
    landmarks: Float32Array
    rotation: int = 0

    def __len__(self) -> int:
        """Returns the number of faces."""
        return len(self.boxes)


def upright(image: UInt8Array, found: Detections) -> tuple[UInt8Array, Float32Array]:
    """Returns an image in which the faces are upright, and their boxes in it; usually the image itself."""
    if found.rotation == 0:
        return image, found.boxes
    height, width = image.shape[:2]
    return turn_image(image, found.rotation), turn_boxes(found.boxes, found.rotation, width, height)


def detector_version(*, prefilter: bool = False) -> str:
    """Names the weights in use; changes exactly when the weights of the cascade, or of the prefilter if used, do."""
    names = (*STAGES, PREFILTER) if prefilter else STAGES
    return "mtcnn-" + "".join(load_record(name).version[:4] for name in names)


class Detector:
    """Finds faces; use one instance per thread."""

    def __init__(self, config: DetectorConfig, threads: int = 1, device: str = CPU) -> None:
        """Loads and verifies the networks.

        Args:
            config: Sizes, thresholds and limits.
            threads: CPU threads of one inference.
            device: Device of the networks, "cpu" or "cuda:0"; everything between them runs on the CPU.

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
        found = [detections for batch in _batches(images) for detections in self._detect_batch(batch)]
        if not self.config.rotations:
            return found
        return [
            detections if _upright(detections).max(initial=0.0) >= _SURE else self._detect_turned(image, detections)
            for image, detections in zip(images, found, strict=True)
        ]

    def _detect_turned(self, image: UInt8Array, untouched: Detections) -> Detections:
        """Returns the faces of the rotation with the most upright ones, in pixels of the image as it is."""
        height, width = image.shape[:2]
        best, most = untouched, _upright(untouched).sum()
        for degrees in self.config.rotations:
            (found,) = self._detect_batch([turn_image(image, degrees)])
            confidence = _upright(found).sum()
            if confidence > most:
                most = confidence
                turned = (width, height) if degrees == 180 else (height, width)
                boxes = turn_boxes(found.boxes, 360 - degrees, *turned)
                landmarks = turn_points(found.landmarks, 360 - degrees, *turned)
                best = Detections(boxes, found.confidences, landmarks, degrees)
        return best

    def refine_each(self, integral: IntegralImage, boxes: Float32Array) -> tuple[Int64Array, Float32Array]:
        """Runs R-Net and O-Net on each proposal separately, without NMS.

        Args:
            integral: The image.
            boxes: float32 (n, 4), square proposals.

        Returns:
            Indices of the proposals that pass both networks, int64 (m,), and their final boxes, float32 (m, 4).
        """
        # The scores carry the indices, because stages reorder and drop candidates.
        candidates = Candidates(boxes, np.arange(len(boxes), dtype=np.float32), np.zeros(len(boxes), dtype=np.int64))
        for network, threshold in ((self._rnet, self.config.thresholds[1]), (self._onet, self.config.thresholds[2])):
            candidates, (scores, deltas, *_) = self._run(network, candidates, [integral])
            passed = scores > threshold
            candidates = candidates.take(passed)
            candidates.boxes = box_ops.apply_box_deltas(candidates.boxes, deltas[passed], inclusive=True)
            if network is self._rnet:
                candidates.boxes = box_ops.to_square(candidates.boxes)
        return candidates.scores.astype(np.int64), candidates.boxes

    def _detect_batch(self, images: Sequence[UInt8Array]) -> list[Detections]:
        integrals = [IntegralImage(image) for image in images]
        candidates = self.proposer.propose(integrals)
        candidates = self._refine(candidates, integrals)
        return self._finish(candidates, integrals)

    def _refine(self, candidates: Candidates, integrals: Sequence[IntegralImage]) -> Candidates:
        candidates, (scores, deltas) = self._run(self._rnet, candidates, integrals)
        passed = scores > self.config.thresholds[1]
        candidates, deltas = candidates.take(passed), deltas[passed]
        candidates.scores = scores[passed]
        kept = box_ops.batched_nms(candidates.boxes, candidates.scores, candidates.images, _NMS_OVERLAP)
        candidates = candidates.take(kept)
        candidates.boxes = box_ops.to_square(box_ops.apply_box_deltas(candidates.boxes, deltas[kept], inclusive=True))
        return candidates

    def _finish(self, candidates: Candidates, integrals: Sequence[IntegralImage]) -> list[Detections]:
        candidates, (scores, deltas, points) = self._run(self._onet, candidates, integrals)
        passed = (scores > self.config.thresholds[2]) & (scores >= self.config.min_confidence)
        candidates, deltas, points = candidates.take(passed), deltas[passed], points[passed]
        boxes = candidates.boxes
        sizes = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = points.reshape(-1, 2, 5).transpose(0, 2, 1) * sizes[:, None, :] + boxes[:, None, :2] - 1
        boxes = box_ops.apply_box_deltas(boxes, deltas, inclusive=True)
        scores = scores[passed]
        kept = box_ops.batched_nms_ios(boxes, scores, candidates.images, _NMS_OVERLAP)
        boxes, scores, landmarks, owners = boxes[kept], scores[kept], landmarks[kept], candidates.images[kept]
        limit = 1 if self.config.largest_only else self.config.max_faces
        results = []
        for index in range(len(integrals)):
            indices = np.flatnonzero(owners == index)
            # Stable, so that ties in area go to the more confident face: NMS returned boxes by score.
            indices = indices[np.argsort(-box_ops.box_area(boxes[indices]), kind="stable")]
            indices = indices[:limit] if limit else indices
            results.append(Detections(boxes[indices], scores[indices], landmarks[indices].astype(np.float32)))
        return results

    def _run(
        self, network: Network, candidates: Candidates, integrals: Sequence[IntegralImage]
    ) -> tuple[Candidates, list[Float32Array]]:
        """Crops all candidates of all images at the network's input size and runs the network on them in batches."""
        # MATLAB's 1-based inclusive pixels, as the networks were trained: pixel x covers [x - 1, x).
        pixels = np.trunc(candidates.boxes).astype(np.int64)
        frames = np.array([[image.width, image.height] for image in integrals], dtype=np.int64).reshape(-1, 2)
        pixels[:, :2] -= 1
        clipped = np.concatenate(
            [np.maximum(pixels[:, :2], 0), np.minimum(pixels[:, 2:], frames[candidates.images])], axis=1
        )
        inside = np.logical_and.reduce(clipped[:, 2:] > clipped[:, :2], axis=1)
        if self.config.border == "clip":
            pixels = clipped
        candidates, pixels = candidates.take(inside), pixels[inside]
        # Sorted by image so that one gather serves all candidates of an image.
        order = np.argsort(candidates.images, kind="stable")
        candidates, pixels = candidates.take(order), pixels[order]
        size = network.record.input_size
        outputs: list[list[Float32Array]] = []
        if len(pixels) == 0:
            return candidates, [np.zeros((0, *shape), dtype=np.float32) for shape in network.output_shapes]
        for start in range(0, len(pixels), _CANDIDATE_BATCH):
            batch = slice(start, start + _CANDIDATE_BATCH)
            boxes, owners = pixels[batch], candidates.images[batch]
            crops = [integrals[int(i)].crop_and_resize(boxes[owners == i], size) for i in np.unique(owners)]
            outputs.append(network(np.concatenate(crops)))
        return candidates, [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def _upright(found: Detections) -> Float32Array:
    """Returns the confidences of the faces that lean by at most 45 degrees."""
    right, down = (found.landmarks[:, 1] - found.landmarks[:, 0]).T
    return np.asarray(found.confidences[right >= np.abs(down)], dtype=np.float32)


def _batches(images: Sequence[UInt8Array]) -> Iterator[Sequence[UInt8Array]]:
    first, pixels = 0, 0
    for index, image in enumerate(images):
        size = image.shape[0] * image.shape[1]
        if index > first and pixels + size > MAX_BATCH_PIXELS:
            yield images[first:index]
            first, pixels = index, 0
        pixels += size
    if images:
        yield images[first:]
