"""The default attribute model: a MobileNet v1 for every attribute, and a smaller-sighted one for emotion beside it."""

import copy
from typing import Literal

import torch
from torch import nn

from faceattr_udf.attributes.labels import ATTRIBUTES
from faceattr_udf.networks.mobilenet import MobileNetV1

Tower = Literal["general", "emotion"]

INPUT_SIZE = 160
# Most faces whose emotion is labelled are 48 px wide: more pixels show nothing more and cost time.
EMOTION_SIZE = 96
# How five pixels become three where 160 become 96.
_SHRINKING = ((2 / 3, 1 / 3, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 0, 1 / 3, 2 / 3))
# Of the emotion tower in the probabilities of emotions; on validation faces 0.4 to 0.7 are within half a point.
EMOTION_SHARE = 0.5
SMALLEST_PROBABILITY = 1e-9
"""What probabilities are raised to before their logarithm is taken, here and wherever they are calibrated."""


class TwoTowers(nn.Module):
    """Face pixels -> logits per attribute.

    Emotion has a tower of its own, because the general one, which has three more attributes to know, learns it to three
    quarters of its training faces only. What is served is a mean of probabilities: the general tower's of the face and
    of its mirror image, and for emotion the other tower's as well.

    Attributes:
        general: Sees 160 px and answers for every attribute.
        emotion: Sees the same face at 96 px and answers for emotion.
        emotion_share: Of the emotion tower in emotion; 0 until it is trained.
        learning: The tower that training is about; the other one stays as it is.
    """

    emotion_share: torch.Tensor
    shrinking: torch.Tensor

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.general = MobileNetV1(dropout)
        self.emotion = MobileNetV1(dropout, heads=("emotion",))
        self.register_buffer("emotion_share", torch.tensor(0.0))
        self.register_buffer("shrinking", _shrinking(), persistent=False)
        self.learning: Tower = "general"

    def learn(self, tower: Tower) -> None:
        """Chooses the tower that training is about.

        An emotion tower that never learned anything starts from the general one, which knows faces.
        """
        self.learning = tower
        if tower == "emotion" and float(self.emotion_share) == 0.0:
            self.emotion.features = copy.deepcopy(self.general.features)
            self.emotion.heads["emotion"] = copy.deepcopy(self.general.heads["emotion"])
            self.emotion_share.fill_(EMOTION_SHARE)
        for name in ("general", "emotion"):
            getattr(self, name).requires_grad_(name == tower)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """RGB (n, 3, height, width), values 0-255 -> attribute -> logits (n, classes).

        In training mode the logits of the tower that learns, for pixels of its own size; in evaluation mode the
        logarithms of what both say, for 160 px.
        """
        if self.training:
            learning: dict[str, torch.Tensor] = getattr(self, self.learning)(pixels)
            return learning
        return self.decide(torch.stack([pixels, pixels.flip(3)], dim=1).flatten(0, 1).permute(0, 2, 3, 1))

    def decide(self, views: torch.Tensor) -> dict[str, torch.Tensor]:
        """What both towers say of faces.

        Args:
            views: RGB (2n, 160, 160, 3), values 0-255; each face and its mirror image after it.

        Returns:
            Attribute -> the logarithms of probabilities (n, classes).
        """
        general = self.general.judge_bytes(views)
        probabilities = {}
        for name in ATTRIBUTES:
            both = torch.softmax(general[name].float(), dim=1)
            probabilities[name] = 0.5 * (both[0::2] + both[1::2])
        emotion = torch.softmax(self.emotion.judge(self._shrink(views[0::2]))["emotion"].float(), dim=1)
        probabilities["emotion"] = torch.lerp(probabilities["emotion"], emotion, self.emotion_share.float())
        return {name: torch.log(values.clamp(min=SMALLEST_PROBABILITY)) for name, values in probabilities.items()}

    def _shrink(self, faces: torch.Tensor) -> torch.Tensor:
        """RGB (n, 160, 160, 3), values 0-255 -> (n, 3, 96, 96), without the mean pixel.

        Bilinear interpolation; as a convolution it takes a third of the time, and the mean pixel goes into its bias.
        """
        side = len(_SHRINKING)
        bias = -self.emotion.mean_pixel.flatten().repeat_interleave(side**2)
        blocks = nn.functional.conv2d(faces.permute(0, 3, 1, 2).float(), self.shrinking, bias, stride=5)
        return nn.functional.pixel_shuffle(blocks, side)


def _shrinking() -> torch.Tensor:
    """Weights (27, 3, 5, 5): the nine pixels that a block of 5 x 5 becomes, channel by channel, for `pixel_shuffle`."""
    weights = torch.tensor(_SHRINKING)
    block = torch.einsum("ih,jw->ijhw", weights, weights).reshape(9, 5, 5)
    return torch.einsum("kc,nhw->knchw", torch.eye(3), block).reshape(27, 3, 5, 5)
