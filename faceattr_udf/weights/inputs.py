"""The input tensors of the networks: their sizes, and the constants that crops are padded and normalized with."""

from dataclasses import dataclass
from typing import Final, Literal

MEAN_PIXEL: Final = (123.68, 116.779, 103.939)
"""ImageNet's mean pixel, RGB. The default model starts from weights that were trained on pixels minus this mean."""

PADDING: Final = 1
"""Pixels of padding on the right and at the bottom of the inputs of a mirrored record. The first convolution, 3 x 3
with stride 2 and TensorFlow's "same" padding, reads them."""

PADDING_VALUE: Final = round(sum(MEAN_PIXEL) / len(MEAN_PIXEL))
"""Value of the padding, 115: the gray nearest to `MEAN_PIXEL`, which normalization turns into nearly 0."""

EMOTION_SIZE: Final = 96
"""Side of the second input of a mirrored record, which the emotion branch sees, without the padding. Most faces with an
emotion label are 48 px wide, so that more pixels add computation but no information."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input tensor of a network, (n * images_per_item, size, size, channels), for n faces or n images.

    Attributes:
        size: Height and width, pixels; 0 means that any height and width is accepted.
        channels: 3 (RGB), or 4 (RGB and one unused channel).
        dtype: Of the pixels, whose values are 0-255.
        images_per_item: 2 where the tensor holds each face and its mirror image.
    """

    size: int
    channels: int
    dtype: Literal["uint8", "float32"]
    images_per_item: int = 1
