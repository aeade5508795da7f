"""Photographs as catalogues hold them: of many sizes, no two of the same one, cut from a few large ones by a seed."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from faceattr_udf.arrays import UInt8Array

_LEAST_PART: Final = 0.25
"""The smallest part of a photograph's sides that is cut out of it."""

_LEAST_SIDE: Final = 120
"""Pixels; thinner strips are no photographs."""

_MOST_ENLARGED: Final = 2.0
"""An enlarged photograph is blurred, so large ones are cut from large ones."""

Shape = tuple[int, int]
"""Width and height, pixels."""


@dataclass(frozen=True, slots=True)
class SizeClass:
    """A range of sizes.

    Attributes:
        name: For tables.
        low: Smallest size, megapixels.
        high: Largest size, megapixels.
    """

    name: str
    low: float
    high: float


SIZE_CLASSES: Final = (
    SizeClass("below 0.1 MP", 0.03, 0.1),
    SizeClass("0.1 to 0.3 MP", 0.1, 0.3),
    SizeClass("0.3 to 0.8 MP", 0.3, 0.8),
    SizeClass("0.8 to 3 MP", 0.8, 3.0),
    SizeClass("above 3 MP", 3.0, 8.0),
)


def large_enough(sources: Sequence[UInt8Array], size: SizeClass) -> list[UInt8Array]:
    """Returns the photographs from which those of a class can be cut."""
    return [source for source in sources if source.shape[0] * source.shape[1] * _MOST_ENLARGED**2 > 2e6 * size.low]


def cut_photographs(
    sources: Sequence[UInt8Array], size: SizeClass, number: int, random: np.random.Generator, taken: set[Shape]
) -> list[bytes]:
    """Cuts and scales photographs to random sizes of a class, log-uniform, and encodes them as JPEG.

    Args:
        sources: uint8 (height, width, 3) RGB, all `large_enough`; one of them is chosen for each photograph.
        size: The class.
        number: How many.
        random: Generator of all choices.
        taken: Widths and heights that must not come again; the new ones are added.

    Returns:
        Encoded photographs.
    """
    photographs: list[bytes] = []
    while len(photographs) < number:
        source = sources[int(random.integers(len(sources)))]
        height, width = (max(1, round(side * random.uniform(_LEAST_PART, 1.0))) for side in source.shape[:2])
        top, left = (int(random.integers(source.shape[axis] - cut + 1)) for axis, cut in enumerate((height, width)))
        pixels = 1e6 * math.exp(random.uniform(math.log(size.low), math.log(size.high)))
        scale = math.sqrt(pixels / (height * width))
        shape = (round(width * scale), round(height * scale))
        if scale > _MOST_ENLARGED or min(shape) < _LEAST_SIDE or shape in taken:
            continue
        taken.add(shape)
        part = Image.fromarray(source[top : top + height, left : left + width]).resize(shape, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        part.save(buffer, "JPEG", quality=int(random.integers(75, 96)))
        photographs.append(buffer.getvalue())
    return photographs
