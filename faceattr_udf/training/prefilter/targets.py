"""Targets of the prefilter: the blocks of P-Net cells from which the cascade finds each face."""

from dataclasses import dataclass

import numpy as np

from faceattr_udf.arrays import Float32Array, Int64Array, UInt8Array
from faceattr_udf.detection import boxes as box_ops
from faceattr_udf.detection.integral_image import IntegralImage
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.detection.prefilter import block_grid, block_index
from faceattr_udf.detection.pyramid import pyramid_scales

_PROPOSAL_IOU = 0.25
"""Least IoU of a proposal with a face that it may lead to."""

_DETECTION_IOU = 0.92
"""Least IoU of a refined proposal with a detection of the whole cascade to count as the same face."""


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """One scene as the prefilter is trained on it.

    Attributes:
        halves: Per level of the pyramid, its pixels at half size: uint8 (h, w, 3) RGB.
        faces: Per face, int64 (n, 3): level, row and column of each block from which the cascade finds it.
    """

    halves: list[UInt8Array]
    faces: list[Int64Array]


class Teacher:
    """Computes targets with the cascade."""

    def __init__(self, detector: Detector) -> None:
        """Takes a detector without a prefilter."""
        self._detector = detector

    def targets(self, image: UInt8Array) -> Targets:
        """Refines every proposal of an image on its own and matches the results with the detections."""
        config = self._detector.config
        integral = IntegralImage(image)
        scales = pyramid_scales(integral.height, integral.width, config.min_face_size, config.scale_factor)
        halves = [np.rint(integral.level(scale / 2.0)[..., :3]).astype(np.uint8) for scale in scales]
        (detections,) = self._detector.detect([image])
        if len(detections) == 0:
            return Targets(halves, [])
        boxes, cells = self._proposals(integral, scales)
        near = box_ops.box_iou(boxes, detections.boxes).max(axis=1) >= _PROPOSAL_IOU
        boxes, cells = boxes[near], cells[near]
        index, refined = self._detector.refine_each(integral, box_ops.to_square(boxes))
        same = box_ops.box_iou(refined, detections.boxes) >= _DETECTION_IOU
        blocks = [
            np.unique([self._block(cell, halves) for cell in cells[index[same[:, face]]]], axis=0)
            for face in range(len(detections))
            if same[:, face].any()
        ]
        return Targets(halves, blocks)

    def _proposals(self, integral: IntegralImage, scales: list[float]) -> tuple[Float32Array, Int64Array]:
        proposer = self._detector.proposer
        level, rows, columns, values = proposer.passing_cells([(integral, scale) for scale in scales])
        windows = proposer.cell_boxes(rows, columns, np.array(scales)[level, None])
        boxes = box_ops.apply_box_deltas(windows, values[:, 1:], inclusive=False)
        return boxes, np.stack([level, rows, columns], axis=1)

    @staticmethod
    def _block(cell: Int64Array, halves: list[UInt8Array]) -> tuple[int, int, int]:
        level = int(cell[0])
        rows, columns = block_grid(*halves[level].shape[:2])
        return level, min(block_index(int(cell[1])), rows - 1), min(block_index(int(cell[2])), columns - 1)
