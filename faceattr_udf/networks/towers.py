"""The default attribute network: a MobileNet v1 for all attributes, and a second, lower-resolution one for emotion."""

import copy
from collections.abc import Mapping
from typing import Literal, Self

import torch
from torch import nn

from faceattr_udf.labels import NUM_CLASSES
from faceattr_udf.networks.mobilenet import MobileNetV1
from faceattr_udf.weights.inputs import EMOTION_SIZE, PADDING, PADDING_VALUE

Branch = Literal["general", "emotion"]

INPUT_SIZE = 160

EMOTION_SHARE = 0.5
"""Weight of the emotion branch in the emotion probabilities; 0.4 to 0.7 differ by less than half a percentage point on
validation faces."""

MIN_PROBABILITY = 1e-9
"""Lower bound of probabilities before their logarithm is taken, here and in calibration."""


class TwoTowers(nn.Module):
    """Face pixels -> logits per attribute, from two branches.

    Emotion has its own branch, because the general one, which also learns three other attributes, fits the emotion of
    only three quarters of its training faces. In evaluation mode the output is a mean of probabilities: of the general
    branch's for the face and for its mirror image, and for emotion also of the emotion branch's.

    Attributes:
        general: Sees the face at 160 px and predicts all attributes.
        emotion: Sees the same face at `EMOTION_SIZE` and predicts emotion.
        emotion_share: Weight of the emotion branch in emotion; 0 until that branch is trained.
        trained_branch: The branch that is trained; the other one is frozen.
        frozen_units: How many of its first convolution units are frozen, too.
    """

    emotion_share: torch.Tensor

    def __init__(self, dropout: float = 0.2, num_classes: Mapping[str, int] = NUM_CLASSES) -> None:
        super().__init__()
        self.general = MobileNetV1(dropout, num_classes)
        self.emotion = MobileNetV1(dropout, {"emotion": num_classes["emotion"]})
        self.register_buffer("emotion_share", torch.tensor(0.0))
        self.trained_branch: Branch = "general"
        self.frozen_units = 0

    def select_branch(self, branch: Branch, frozen_units: int = 0) -> None:
        """Selects the branch to train and freezes the other one.

        An untrained emotion branch is initialized with the weights of the general one.

        Args:
            branch: The branch to train.
            frozen_units: How many of its first convolution units keep their weights and batch statistics.
        """
        self.trained_branch, self.frozen_units = branch, frozen_units
        if branch == "emotion" and float(self.emotion_share) == 0.0:
            self.emotion.features = copy.deepcopy(self.general.features)
            self.emotion.heads["emotion"] = copy.deepcopy(self.general.heads["emotion"])
            self.emotion_share.fill_(EMOTION_SHARE)
        for name in ("general", "emotion"):
            getattr(self, name).requires_grad_(name == branch)
        getattr(self, branch).features[:frozen_units].requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Switches to training or evaluation mode; frozen units always stay in evaluation mode."""
        super().train(mode)
        getattr(self, self.trained_branch).features[: self.frozen_units].eval()
        return self

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """RGB (n, 3, height, width), values 0-255 -> attribute -> logits (n, classes).

        In training mode: the logits of the trained branch, for pixels at its own size. In evaluation mode: the log
        probabilities of both branches together, for 160 px.
        """
        if self.training:
            logits: dict[str, torch.Tensor] = getattr(self, self.trained_branch)(pixels)
            return logits
        pairs = torch.stack([pixels, pixels.flip(3)], dim=1).flatten(0, 1)
        small = nn.functional.interpolate(pixels, size=(EMOTION_SIZE, EMOTION_SIZE), mode="bilinear")
        return self.forward_uint8(_pad(pairs), _pad(small))

    def forward_uint8(self, pairs: torch.Tensor, small: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns the log probabilities of both branches together, for input from `attributes.preprocess`.

        Args:
            pairs: RGB (2n, 161, 161, 3), values 0-255; each face is followed by its mirror image.
            small: The same faces, smaller and not mirrored, (n, 97, 97, 3).

        Returns:
            Attribute -> log probabilities (n, classes), of the heads that the general branch has.
        """
        probabilities = {}
        for name, logits in self.general.forward_uint8(pairs).items():
            both = torch.softmax(logits.float(), dim=1)
            probabilities[name] = 0.5 * (both[0::2] + both[1::2])
        if "emotion" in probabilities:
            emotion = torch.softmax(self.emotion.forward_uint8(small)["emotion"].float(), dim=1)
            probabilities["emotion"] = torch.lerp(probabilities["emotion"], emotion, self.emotion_share.float())
        return {name: torch.log(values.clamp(min=MIN_PROBABILITY)) for name, values in probabilities.items()}


def _pad(pixels: torch.Tensor) -> torch.Tensor:
    """(n, 3, height, width) -> (n, height + 1, width + 1, 3), padded on the right and at the bottom."""
    return nn.functional.pad(pixels, (0, PADDING, 0, PADDING), value=PADDING_VALUE).permute(0, 2, 3, 1)
