"""The scales of the image pyramid that P-Net slides over."""

from typing import Final

PNET_CELL: Final = 12
"""P-Net's receptive field in pixels: the smallest face that one pyramid level can show."""


def pyramid_scales(height: int, width: int, min_face_size: int, factor: float) -> list[float]:
    """Returns the scales at which faces from `min_face_size` pixels up to the whole image shrink to 12 px.

    >>> pyramid_scales(40, 60, 20, 0.5)
    [0.6, 0.3]
    """
    scale = PNET_CELL / min_face_size
    shorter = min(height, width) * scale
    scales = []
    while shorter >= PNET_CELL:
        scales.append(scale)
        scale *= factor
        shorter *= factor
    return scales
