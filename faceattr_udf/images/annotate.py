"""Draws boxes and predictions on a photograph."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from faceattr_udf.arrays import UInt8Array

_MIN_LONG_SIDE: Final = 1000
"""Smaller photographs are enlarged to this many pixels, because small text is unreadable."""

_MAX_SIDE: Final = 65_500
"""JPEG has no longer side."""

_COLORS: Final = ((255, 214, 10), (64, 224, 255), (255, 120, 200), (130, 255, 130), (255, 160, 60), (190, 170, 255))


@dataclass(frozen=True, slots=True)
class Annotation:
    """One box and the lines to write beside it.

    Attributes:
        box: x_min, y_min, x_max, y_max in pixels of the photograph; may extend beyond its frame.
        lines: Text lines, from top to bottom; if empty, only the box is drawn.
    """

    box: tuple[float, float, float, float]
    lines: tuple[str, ...] = ()


class _Rectangle(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def intersection_area(self, other: "_Rectangle") -> float:
        return _Rectangle(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        ).area


def annotate(image: UInt8Array, annotations: Sequence[Annotation], max_pixels: int | None = None) -> UInt8Array:
    """Returns a copy of a photograph with boxes and labels.

    As far as there is room, labels avoid other labels first, then other faces, then their own face.

    Args:
        image: uint8 (height, width, 3), RGB.
        annotations: What to draw.
        max_pixels: A larger photograph is reduced to this many pixels before anything is drawn, so that text and lines
            stay readable; None reduces none below 65,500 px a side.

    Returns:
        uint8 (height, width, 3), RGB. A photograph whose longer side is below 1000 px is enlarged to it, as far as
        `max_pixels` allows.
    """
    height, width = image.shape[:2]
    scale = _scale(width, height, max_pixels)
    canvas = Image.fromarray(image)
    if scale != 1.0:
        size = (max(1, int(width * scale + 1e-6)), max(1, int(height * scale + 1e-6)))
        # Pillow's bicubic filter covers all pixels when it reduces.
        canvas = canvas.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas, "RGBA")
    font_px = max(14, round(min(max(canvas.size) / 62, min(canvas.size) / 8)))
    font = ImageFont.load_default(size=font_px)
    boxes = [_Rectangle(*(side * scale for side in annotation.box)) for annotation in annotations]
    n_labeled = max((index + 1 for index, annotation in enumerate(annotations) if annotation.lines), default=0)
    sizes = [_text_size(draw, annotation.lines, font, font_px) for annotation in annotations[:n_labeled]]
    places = place_labels(boxes, sizes, canvas.size)
    line_px = max(2, font_px // 7)
    for index, box in enumerate(boxes):
        draw.rectangle(box, outline=_COLORS[index % len(_COLORS)], width=line_px)
    for index, (annotation, place) in enumerate(zip(annotations, places, strict=False)):
        if not annotation.lines:
            continue
        color = _COLORS[index % len(_COLORS)]
        _connect(draw, _Rectangle(*place), boxes[index], color, line_px)
        draw.rectangle(place, fill=(0, 0, 0, 190), outline=color, width=max(1, line_px // 2))
        position = (place[0] + font_px // 3, place[1] + font_px // 5)
        draw.multiline_text(position, "\n".join(annotation.lines), fill=color, font=font, spacing=font_px // 5)
    return np.asarray(canvas)


def _scale(width: int, height: int, max_pixels: int | None) -> float:
    """Returns the factor by which a photograph is enlarged or reduced.

    >>> _scale(500, 250, None), _scale(4000, 3000, 3_000_000), _scale(4000, 3000, None)
    (2.0, 0.5, 1.0)
    """
    long_side = max(width, height)
    scale = min(max(1.0, _MIN_LONG_SIDE / long_side), _MAX_SIDE / long_side)
    return scale if max_pixels is None else min(scale, math.sqrt(max_pixels / (width * height)))


def place_labels(
    boxes: Sequence[tuple[float, float, float, float]],
    sizes: Sequence[tuple[float, float]],
    canvas: tuple[int, int],
) -> list[tuple[float, float, float, float]]:
    """Places each label beside its box.

    Args:
        boxes: x_min, y_min, x_max, y_max of each box, pixels.
        sizes: Width and height of each label, pixels; the last boxes may have none.
        canvas: Width and height of the image, pixels.

    Returns:
        left, top, right, bottom of each label, inside the image if it fits.

    >>> place_labels([(40, 10, 80, 50)], [(60, 20)], (200, 100))
    [(30.0, 52.0, 90.0, 72.0)]
    """
    faces = [_Rectangle(*box) for box in boxes]
    placed: list[_Rectangle] = []
    for index, (face, size) in enumerate(zip(faces, sizes, strict=False)):
        others = faces[:index] + faces[index + 1 :]

        def cost(
            place: _Rectangle, face: _Rectangle = face, others: Sequence[_Rectangle] = others
        ) -> tuple[float, float, float]:
            return (
                sum(place.intersection_area(label) for label in placed),
                sum(place.intersection_area(other) for other in others),
                place.intersection_area(face),
            )

        placed.append(min(_candidates(face, size, canvas), key=cost))
    return [(place.left, place.top, place.right, place.bottom) for place in placed]


def _candidates(face: _Rectangle, size: tuple[float, float], canvas: tuple[int, int]) -> Iterator[_Rectangle]:
    """Yields places around a face, nearest first, moved inside the image."""
    width, height = size
    gap = 2.0
    center_x, center_y = (face.left + face.right) / 2, (face.top + face.bottom) / 2
    for step in range(4):
        above, below = face.top - gap - height * (1 + step), face.bottom + gap + height * step
        before, after = face.left - gap - width * (1 + step / 2), face.right + gap + width * step / 2
        for left, top in (
            (center_x - width / 2, below),
            (center_x - width / 2, above),
            (after, center_y - height / 2),
            (before, center_y - height / 2),
            (after, below),
            (before, below),
            (after, above),
            (before, above),
        ):
            left_inside = float(min(max(left, 0.0), max(canvas[0] - width, 0.0)))
            top_inside = float(min(max(top, 0.0), max(canvas[1] - height, 0.0)))
            yield _Rectangle(left_inside, top_inside, left_inside + width, top_inside + height)


def _text_size(
    draw: ImageDraw.ImageDraw,
    lines: Sequence[str],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    font_px: int,
) -> tuple[float, float]:
    if not lines:
        return 0.0, 0.0
    _, _, right, bottom = draw.multiline_textbbox((0, 0), "\n".join(lines), font=font, spacing=font_px // 5)
    return right + 2 * (font_px // 3), bottom + 2 * (font_px // 5)


def _connect(
    draw: ImageDraw.ImageDraw, label: _Rectangle, box: _Rectangle, color: tuple[int, int, int], line_px: int
) -> None:
    """Draws a line from a label to its box if they do not touch."""
    axes = []
    for (low, high), (box_low, box_high) in (
        ((label.left, label.right), (box.left, box.right)),
        ((label.top, label.bottom), (box.top, box.bottom)),
    ):
        ordered = sorted((low, high, box_low, box_high))
        middle = (ordered[1] + ordered[2]) / 2
        if low > box_high:
            axes.append((low, box_high))
        elif high < box_low:
            axes.append((high, box_low))
        else:
            axes.append((middle, middle))
    start, stop = zip(*axes, strict=True)
    if start != stop:
        draw.line([start, stop], fill=color, width=line_px)
