"""The default attribute model: a MobileNet v1 for every attribute, and a smaller-sighted one for emotion beside it."""

import copy
from typing import Literal

import torch
from torch import nn

from faceattr_udf.attributes.labels import ATTRIBUTES
from faceattr_udf.attributes.preprocess import EMOTION_SIZE, GREY
from faceattr_udf.networks.mobilenet import MobileNetV1

Tower = Literal["general", "emotion"]

INPUT_SIZE = 160
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
        emotion: Sees the same face at `EMOTION_SIZE` and answers for emotion.
        emotion_share: Of the emotion tower in emotion; 0 until it is trained.
        learning: The tower that training is about; the other one stays as it is.
    """

    emotion_share: torch.Tensor

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.general = MobileNetV1(dropout)
        self.emotion = MobileNetV1(dropout, heads=("emotion",))
        self.register_buffer("emotion_share", torch.tensor(0.0))
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
        pairs = torch.stack([pixels, pixels.flip(3)], dim=1).flatten(0, 1)
        small = nn.functional.interpolate(pixels, size=(EMOTION_SIZE, EMOTION_SIZE), mode="bilinear")
        return self.decide(_framed(pairs), _framed(small))

    def decide(self, pairs: torch.Tensor, small: torch.Tensor) -> dict[str, torch.Tensor]:
        """What both towers say of n faces, shown as `attributes.views` shows them.

        Args:
            pairs: RGB (2n, 161, 161, 3), values 0-255; each face and its mirror image after it.
            small: The faces once more, (n, 97, 97, 3).

        Returns:
            Attribute -> the logarithms of probabilities (n, classes).
        """
        general = self.general.judge_bytes(pairs)
        probabilities = {}
        for name in ATTRIBUTES:
            both = torch.softmax(general[name].float(), dim=1)
            probabilities[name] = 0.5 * (both[0::2] + both[1::2])
        emotion = torch.softmax(self.emotion.judge_bytes(small)["emotion"].float(), dim=1)
        probabilities["emotion"] = torch.lerp(probabilities["emotion"], emotion, self.emotion_share.float())
        return {name: torch.log(values.clamp(min=SMALLEST_PROBABILITY)) for name, values in probabilities.items()}


def _framed(pixels: torch.Tensor) -> torch.Tensor:
    """(n, 3, height, width) -> (n, height + 1, width + 1, 3), grey right and below."""
    return nn.functional.pad(pixels, (0, 1, 0, 1), value=GREY).permute(0, 2, 3, 1)
