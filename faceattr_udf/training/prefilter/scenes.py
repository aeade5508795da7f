"""Synthetic scenes for training: labeled faces pasted onto photographs and noise, and augmented photographs.

The photographs at hand do not have tens of thousands of faces. The prefilter imitates the cascade, so that scenes teach
it as well as photographs do.
"""

import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from faceattr_udf.arrays import Float32Array, UInt8Array
from faceattr_udf.training.data.image_ops import as_uint8, gaussian_blur, jpeg_compress

_SOURCE_WEIGHTS = {"utkface": 3.0, "aaf": 3.0, "iog": 2.0, "muxspace": 1.0, "fer2013": 0.25}
_MAX_PHOTOGRAPH_SIDE = 1700


class SyntheticScenes:
    """Draws random scenes."""

    def __init__(self, faces: pa.Table, photographs: Sequence[UInt8Array], seed: int) -> None:
        """Takes the material of the scenes.

        Args:
            faces: Loose crops: the columns image (encoded) and source.
            photographs: uint8 (height, width, 3) RGB; used as backgrounds and as scenes of their own.
            seed: Seed of all random numbers.
        """
        self._faces, self._photographs = faces, photographs
        weights = np.array([_SOURCE_WEIGHTS.get(str(source), 1.0) for source in faces["source"].to_pylist()])
        self._weights = weights / weights.sum()
        self._random = np.random.default_rng(seed)

    def draw(self) -> UInt8Array:
        """Draws a scene, uint8 (height, width, 3) RGB; about a megapixel."""
        scene = self._photograph() if self._chance(0.25) else self._composite()
        return np.ascontiguousarray(scene)

    def _chance(self, probability: float) -> bool:
        return bool(self._random.random() < probability)

    def _log_uniform(self, low: float, high: float) -> float:
        return float(np.exp(self._random.uniform(np.log(low), np.log(high))))

    def _photograph(self) -> UInt8Array:
        whole = self._photographs[int(self._random.integers(len(self._photographs)))]
        scale = min(self._log_uniform(0.5, 1.6), _MAX_PHOTOGRAPH_SIDE / max(whole.shape))
        picture = _resize(whole, scale, scale * self._random.uniform(0.95, 1.05))
        if self._chance(0.5):
            picture = picture[:, ::-1]
        return self._random_tone(picture) if self._chance(0.5) else picture

    def _composite(self) -> UInt8Array:
        height, width = int(self._random.integers(500, 1000)), int(self._random.integers(700, 1300))
        canvas = self._background(height, width)
        if self._chance(0.9):
            for _ in range(int(self._log_uniform(3, 45))):
                self._paste(canvas)
        return self._degrade(canvas)

    def _background(self, height: int, width: int) -> UInt8Array:
        random = self._random
        if self._chance(0.6):
            whole = self._photographs[int(random.integers(len(self._photographs)))]
            scale = max(self._log_uniform(0.5, 2.5), 1.01 * height / whole.shape[0], 1.01 * width / whole.shape[1])
            large = _resize(whole, scale, scale)
            top, left = (int(random.integers(large.shape[axis] - side + 1)) for axis, side in ((0, height), (1, width)))
            crop = large[top : top + height, left : left + width]
            crop = crop[:, ::-1] if self._chance(0.5) else crop
            return (crop[::-1] if self._chance(0.2) else crop).copy()
        coarse = random.integers(0, 256, (random.integers(2, 12), random.integers(2, 12), 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        grain = random.normal(0, random.uniform(0, 60), (height, width)).astype(np.float32)
        grain = cv2.GaussianBlur(grain, (0, 0), random.uniform(0.5, 3))[..., None].astype(np.float32)
        return _clip_to_uint8(smooth + grain)

    def _paste(self, canvas: UInt8Array) -> None:
        canvas_height, canvas_width = canvas.shape[:2]
        height = min(int(self._log_uniform(26, 350)), canvas_height - 4, canvas_width - 4)
        width = min(int(height * self._random.uniform(0.9, 1.1)), canvas_width - 4)
        face, alpha = self._face(width, height), self._alpha(width, height)
        if self._chance(0.3):
            rotation = cv2.getRotationMatrix2D((width / 2, height / 2), self._random.normal(0, 12), 1)
            face = as_uint8(cv2.warpAffine(face, rotation, (width, height)))
            alpha = np.asarray(cv2.warpAffine(alpha, rotation, (width, height)), dtype=np.float32)
        # Up to a sixth of a face lies outside the scene.
        top = int(self._random.integers(-height // 6, canvas_height - height + height // 6 + 1))
        left = int(self._random.integers(-width // 6, canvas_width - width + width // 6 + 1))
        rows, columns = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
        below = canvas[rows, columns]
        visible = (
            slice(max(-top, 0), max(-top, 0) + below.shape[0]),
            slice(max(-left, 0), max(-left, 0) + below.shape[1]),
        )
        opacity = alpha[visible][..., None]
        canvas[rows, columns] = (below * (1.0 - opacity) + face[visible] * opacity).astype(np.uint8)

    def _face(self, width: int, height: int) -> UInt8Array:
        row = int(self._random.choice(len(self._weights), p=self._weights))
        with Image.open(io.BytesIO(self._faces["image"][row].as_py())) as image:
            face = np.asarray(image.convert("RGB"))
        face = _resize(face, height / face.shape[0], width / face.shape[1], (width, height))
        face = self._random_tone(face) if self._chance(0.7) else face
        face = np.ascontiguousarray(face[:, ::-1] if self._chance(0.5) else face)
        kind = self._random.random()
        if kind < 0.35:
            return self._add_face_mask(face)
        if kind < 0.45:
            top, left = int(height * self._random.uniform(0.2, 0.8)), int(width * self._random.uniform(0.1, 0.8))
            face[top : top + height // 4, left : left + width // 4] = self._random.integers(0, 256, 3)
        return face

    def _add_face_mask(self, face: UInt8Array) -> UInt8Array:
        """Paints a face mask over nose and mouth; the face fills three quarters of a loose crop."""
        height, width = face.shape[:2]
        uniform = self._random.uniform
        top, bottom = int(height * uniform(0.48, 0.6)), int(height * uniform(0.75, 0.92))
        left, right = int(width * uniform(0.15, 0.3)), int(width * uniform(0.7, 0.85))
        inset = int(width * 0.08)
        ridge = top - int(height * 0.05)
        outline = np.array(
            [[left, top], [width // 2, ridge], [right, top], [right - inset, bottom], [left + inset, bottom]]
        )
        color = self._random.integers(150, 256, 3) if self._chance(0.6) else self._random.integers(0, 200, 3)
        cloth = face.copy()
        cv2.fillPoly(cloth, [outline.astype(np.int32)], color.tolist())
        return as_uint8(cv2.addWeighted(cloth, 0.9, face, 0.1, 0))

    def _alpha(self, width: int, height: int) -> Float32Array:
        """Rerotations the opacity of a face, 0 to 1: opaque, or fading towards its edge."""
        alpha = np.ones((height, width), dtype=np.float32)
        if self._chance(0.6):
            edge = max(1, int(height * self._random.uniform(0.03, 0.12)))
            alpha[:] = 0.0
            if self._chance(0.5):
                alpha[edge:-edge, edge:-edge] = 1.0
            else:
                cv2.ellipse(
                    alpha, (width // 2, height // 2), (width // 2 - edge, height // 2 - edge), 0, 0, 360, (1.0,), -1
                )
            alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), max(0.5, edge / 2)), dtype=np.float32)
        return alpha

    def _random_tone(self, picture: UInt8Array) -> UInt8Array:
        if self._chance(0.15):
            picture = np.repeat(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))[..., None], 3, 2).astype(np.uint8)
        curved = 255.0 * (picture / 255.0) ** np.exp(self._random.normal(0, 0.3))
        return _clip_to_uint8(curved * self._random.uniform(0.7, 1.15) + self._random.uniform(-15, 15))

    def _degrade(self, canvas: UInt8Array) -> UInt8Array:
        if self._chance(0.3):
            canvas = self._random_tone(canvas)
        if self._chance(0.2):
            canvas = gaussian_blur(canvas, self._random.uniform(0.5, 1.5))
        if self._chance(0.2):
            canvas = _clip_to_uint8(canvas + self._random.normal(0, self._random.uniform(2, 12), canvas.shape))
        if self._chance(0.5):
            canvas = jpeg_compress(canvas, int(self._random.integers(40, 95)))
        return canvas


def _resize(picture: UInt8Array, scale_y: float, scale_x: float, size: tuple[int, int] | None = None) -> UInt8Array:
    interpolation = cv2.INTER_AREA if min(scale_y, scale_x) < 1.0 else cv2.INTER_LINEAR
    size = size or (round(picture.shape[1] * scale_x), round(picture.shape[0] * scale_y))
    return as_uint8(cv2.resize(picture, size, interpolation=interpolation))


def _clip_to_uint8(values: npt.NDArray[Any]) -> UInt8Array:
    return np.asarray(np.clip(values, 0, 255), dtype=np.uint8)
