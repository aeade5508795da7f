"""From which blocks of P-Net's cells the cascade finds which face."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceattr_udf.detection import boxes as box_ops
from faceattr_udf.detection.boxes import FloatArray
from faceattr_udf.detection.mtcnn import Detector
from faceattr_udf.detection.prefilter import block_grid, block_of
from faceattr_udf.detection.pyramid import SummedAreas, pyramid_scales

UInt8Array = npt.NDArray[np.uint8]

# A proposal that is not even near a face cannot become it.
_NEAR = 0.25
# How well the face that a proposal becomes must agree with the one that the whole cascade finds.
_SAME = 0.92


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """One picture as the screen learns it.

    Attributes:
        halves: Of every level, at half its size: uint8 (h, w, 3) RGB.
        faces: Of every face, int64 (n, 3): level, row and column of each block from which it is found.
    """

    halves: list[UInt8Array]
    faces: list[npt.NDArray[np.int64]]


class Teacher:
    """The cascade without a screen, asked where it finds what it finds."""

    def __init__(self, detector: Detector) -> None:
        """Takes a detector without a screen."""
        self._detector = detector

    def targets(self, image: UInt8Array) -> Targets:
        """Follows every proposal of a picture through the cascade, each by itself."""
        config = self._detector.config
        table = SummedAreas(image)
        scales = pyramid_scales(table.height, table.width, config.min_face_size, config.scale_factor)
        halves = [np.rint(table.level(scale / 2.0)[..., :3]).astype(np.uint8) for scale in scales]
        (found,) = self._detector.detect([image])
        if len(found) == 0:
            return Targets(halves, [])
        boxes, cells = self._proposals(table, scales)
        near = box_ops.overlaps(boxes, found.boxes).max(axis=1) >= _NEAR
        boxes, cells = boxes[near], cells[near]
        which, final = self._detector.follow(table, box_ops.square(boxes))
        same = box_ops.overlaps(final, found.boxes) >= _SAME
        blocks = [
            np.unique([self._block(cell, halves) for cell in cells[which[same[:, face]]]], axis=0)
            for face in range(len(found))
            if same[:, face].any()
        ]
        return Targets(halves, blocks)

    def _proposals(self, table: SummedAreas, scales: list[float]) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        proposer = self._detector.proposer
        boxes, cells = [], []
        for level, scale in enumerate(scales):
            rows, columns, values = proposer.cells(table, scale)
            boxes.append(box_ops.regress(proposer.boxes(rows, columns, scale), values[:, 1:], inclusive=False))
            cells.append(np.stack([np.full(len(rows), level), rows, columns], axis=1))
        return np.concatenate(boxes), np.concatenate(cells)

    @staticmethod
    def _block(cell: npt.NDArray[np.int64], halves: list[UInt8Array]) -> tuple[int, int, int]:
        level = int(cell[0])
        rows, columns = block_grid(*halves[level].shape[:2])
        return level, min(block_of(int(cell[1])), rows - 1), min(block_of(int(cell[2])), columns - 1)
