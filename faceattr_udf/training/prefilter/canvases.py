"""Pictures to learn from: labelled faces pasted onto photographs and onto nothing, and photographs as they are.

No collection of photographs at hand has tens of thousands of faces; what the cascade finds on a canvas is as true for
the screen as what it finds on a photograph.
"""

import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

UInt8Array = npt.NDArray[np.uint8]

_SOURCE_WEIGHTS = {"utkface": 3.0, "aaf": 3.0, "iog": 2.0, "muxspace": 1.0, "fer2013": 0.25}
_LARGEST_PHOTOGRAPH = 1700


class Canvases:
    """Makes one random picture after the other."""

    def __init__(self, faces: pa.Table, photographs: Sequence[UInt8Array], seed: int) -> None:
        """Takes what pictures are made of.

        Args:
            faces: Columns image (encoded) and source, loose crops.
            photographs: uint8 (height, width, 3) RGB; backgrounds, and pictures in their own right.
            seed: Of everything random.
        """
        self._faces, self._photographs = faces, photographs
        weights = np.array([_SOURCE_WEIGHTS.get(str(source), 1.0) for source in faces["source"].to_pylist()])
        self._weights = weights / weights.sum()
        self._random = np.random.default_rng(seed)

    def draw(self) -> UInt8Array:
        """Returns uint8 (height, width, 3) RGB, a megapixel or less."""
        picture = self._photograph() if self._chance(0.25) else self._canvas()
        return np.ascontiguousarray(picture)

    def _chance(self, probability: float) -> bool:
        return bool(self._random.random() < probability)

    def _between(self, low: float, high: float) -> float:
        """Log-uniform: sizes are ratios."""
        return float(np.exp(self._random.uniform(np.log(low), np.log(high))))

    def _photograph(self) -> UInt8Array:
        whole = self._photographs[int(self._random.integers(len(self._photographs)))]
        scale = min(self._between(0.5, 1.6), _LARGEST_PHOTOGRAPH / max(whole.shape))
        picture = _resize(whole, scale, scale * self._random.uniform(0.95, 1.05))
        if self._chance(0.5):
            picture = picture[:, ::-1]
        return self._tone(picture) if self._chance(0.5) else picture

    def _canvas(self) -> UInt8Array:
        height, width = int(self._random.integers(500, 1000)), int(self._random.integers(700, 1300))
        canvas = self._background(height, width)
        if self._chance(0.9):
            for _ in range(int(self._between(3, 45))):
                self._paste(canvas)
        return self._degrade(canvas)

    def _background(self, height: int, width: int) -> UInt8Array:
        random = self._random
        if self._chance(0.6):
            whole = self._photographs[int(random.integers(len(self._photographs)))]
            scale = max(self._between(0.5, 2.5), 1.01 * height / whole.shape[0], 1.01 * width / whole.shape[1])
            large = _resize(whole, scale, scale)
            top, left = (int(random.integers(large.shape[axis] - side + 1)) for axis, side in ((0, height), (1, width)))
            cut = large[top : top + height, left : left + width]
            cut = cut[:, ::-1] if self._chance(0.5) else cut
            return (cut[::-1] if self._chance(0.2) else cut).copy()
        coarse = random.integers(0, 256, (random.integers(2, 12), random.integers(2, 12), 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        grain = random.normal(0, random.uniform(0, 60), (height, width)).astype(np.float32)
        grain = cv2.GaussianBlur(grain, (0, 0), random.uniform(0.5, 3))[..., None].astype(np.float32)
        return _bytes(smooth + grain)

    def _paste(self, canvas: UInt8Array) -> None:
        height, width = canvas.shape[:2]
        side = min(int(self._between(26, 350)), height - 4, width - 4)
        across = min(int(side * self._random.uniform(0.9, 1.1)), width - 4)
        face, mask = self._face(across, side), self._mask(across, side)
        if self._chance(0.3):
            turn = cv2.getRotationMatrix2D((across / 2, side / 2), self._random.normal(0, 12), 1)
            face = np.asarray(cv2.warpAffine(face, turn, (across, side)), dtype=np.uint8)
            mask = np.asarray(cv2.warpAffine(mask, turn, (across, side)), dtype=np.float32)
        # Up to a sixth of a face is outside the frame.
        top = int(self._random.integers(-side // 6, height - side + side // 6 + 1))
        left = int(self._random.integers(-across // 6, width - across + across // 6 + 1))
        rows, columns = slice(max(top, 0), top + side), slice(max(left, 0), left + across)
        below = canvas[rows, columns]
        seen = (
            slice(max(-top, 0), max(-top, 0) + below.shape[0]),
            slice(max(-left, 0), max(-left, 0) + below.shape[1]),
        )
        share = mask[seen][..., None]
        canvas[rows, columns] = (below * (1.0 - share) + face[seen] * share).astype(np.uint8)

    def _face(self, width: int, height: int) -> UInt8Array:
        row = int(self._random.choice(len(self._weights), p=self._weights))
        with Image.open(io.BytesIO(self._faces["image"][row].as_py())) as image:
            face = np.asarray(image.convert("RGB"))
        face = _resize(face, height / face.shape[0], width / face.shape[1], (width, height))
        face = self._tone(face) if self._chance(0.7) else face
        face = np.ascontiguousarray(face[:, ::-1] if self._chance(0.5) else face)
        kind = self._random.random()
        if kind < 0.35:
            return self._masked(face)
        if kind < 0.45:
            top, left = int(height * self._random.uniform(0.2, 0.8)), int(width * self._random.uniform(0.1, 0.8))
            face[top : top + height // 4, left : left + width // 4] = self._random.integers(0, 256, 3)
        return face

    def _masked(self, face: UInt8Array) -> UInt8Array:
        """A mask over nose and mouth; the face fills three quarters of a loose crop."""
        height, width = face.shape[:2]
        share = self._random.uniform
        top, bottom = int(height * share(0.48, 0.6)), int(height * share(0.75, 0.92))
        left, right = int(width * share(0.15, 0.3)), int(width * share(0.7, 0.85))
        inset = int(width * 0.08)
        ridge = top - int(height * 0.05)
        outline = np.array(
            [[left, top], [width // 2, ridge], [right, top], [right - inset, bottom], [left + inset, bottom]]
        )
        colour = self._random.integers(150, 256, 3) if self._chance(0.6) else self._random.integers(0, 200, 3)
        cloth = face.copy()
        cv2.fillPoly(cloth, [outline.astype(np.int32)], colour.tolist())
        return np.asarray(cv2.addWeighted(cloth, 0.9, face, 0.1, 0), dtype=np.uint8)

    def _mask(self, width: int, height: int) -> npt.NDArray[np.float32]:
        """How much of the face there is, 0 to 1: all of it, or fading towards its edge."""
        mask = np.ones((height, width), dtype=np.float32)
        if self._chance(0.6):
            edge = max(1, int(height * self._random.uniform(0.03, 0.12)))
            mask[:] = 0.0
            if self._chance(0.5):
                mask[edge:-edge, edge:-edge] = 1.0
            else:
                cv2.ellipse(
                    mask, (width // 2, height // 2), (width // 2 - edge, height // 2 - edge), 0, 0, 360, (1.0,), -1
                )
            mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.5, edge / 2)), dtype=np.float32)
        return mask

    def _tone(self, picture: UInt8Array) -> UInt8Array:
        if self._chance(0.15):
            picture = np.repeat(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))[..., None], 3, 2).astype(np.uint8)
        bent = 255.0 * (picture / 255.0) ** np.exp(self._random.normal(0, 0.3))
        return _bytes(bent * self._random.uniform(0.7, 1.15) + self._random.uniform(-15, 15))

    def _degrade(self, canvas: UInt8Array) -> UInt8Array:
        if self._chance(0.3):
            canvas = self._tone(canvas)
        if self._chance(0.2):
            canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), self._random.uniform(0.5, 1.5)), dtype=np.uint8)
        if self._chance(0.2):
            canvas = _bytes(canvas + self._random.normal(0, self._random.uniform(2, 12), canvas.shape))
        if self._chance(0.5):
            quality = int(self._random.integers(40, 95))
            encoded = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            canvas = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
        return canvas


def _resize(picture: UInt8Array, down: float, across: float, size: tuple[int, int] | None = None) -> UInt8Array:
    kind = cv2.INTER_AREA if min(down, across) < 1.0 else cv2.INTER_LINEAR
    size = size or (round(picture.shape[1] * across), round(picture.shape[0] * down))
    return np.asarray(cv2.resize(picture, size, interpolation=kind), dtype=np.uint8)


def _bytes(values: npt.NDArray[Any]) -> UInt8Array:
    return np.asarray(np.clip(values, 0, 255), dtype=np.uint8)
