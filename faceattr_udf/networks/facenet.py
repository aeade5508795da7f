"""The multi-task FaceNet of the published method: Inception-ResNet-v1, a 128-d embedding, one branch per attribute."""

from collections.abc import Sequence
from typing import Self

import torch
from facenet_pytorch.models.inception_resnet_v1 import InceptionResnetV1
from torch import nn

from faceattr_udf.attributes.labels import BINS

INPUT_SIZE = 112
EMBEDDING_SIZE = 128
SHARES = "shares"
"""Name of the output from which each task's share of the loss comes."""

_FEATURES = 1792
_BRANCH = 128


class MultitaskFacenet(nn.Module):
    """Face pixels -> embedding, logits per attribute, logits of the tasks' shares of the loss.

    Schroff, Kalenichenko, Philbin 2015, "FaceNet: A Unified Embedding for Face Recognition and Clustering"; the dynamic
    loss weights are those of Yin and Liu 2018, "Multi-Task Convolutional Neural Network for Pose-Invariant Face
    Recognition".

    Attributes:
        backbone: facenet-pytorch's Inception-ResNet-v1 with a last layer of 128 outputs; it L2-normalises them.
        branches: Attribute -> fully connected, dropout, fully connected; softmax is in the loss and in `Served`.
        shares: Embedding -> one logit per task.
    """

    def __init__(self, dropout: float = 0.4) -> None:
        super().__init__()
        self.backbone = InceptionResnetV1(pretrained=None, classify=False, dropout_prob=dropout)
        self.backbone.last_linear = nn.Linear(_FEATURES, EMBEDDING_SIZE, bias=False)
        self.backbone.last_bn = nn.BatchNorm1d(EMBEDDING_SIZE, eps=1e-3)
        self.branches = nn.ModuleDict(
            {
                attribute: nn.Sequential(
                    nn.Linear(EMBEDDING_SIZE, _BRANCH), nn.ReLU(), nn.Dropout(dropout), nn.Linear(_BRANCH, size)
                )
                for attribute, size in BINS.items()
            }
        )
        self.shares = nn.Linear(EMBEDDING_SIZE, len(BINS))
        self._frozen: list[nn.Module] = []

    def freeze(self, layers: Sequence[str]) -> None:
        """Gates the gradients of layers of the backbone; their batch statistics stay as they are, too.

        Args:
            layers: Names of the backbone's children, e.g. "conv2d_1a" and "repeat_1".

        Raises:
            ValueError: The backbone has no such child.
        """
        children = dict(self.backbone.named_children())
        strange = sorted(set(layers) - set(children))
        if strange:
            msg = f"Inception-ResNet-v1 has no layer {', '.join(strange)}; it has {', '.join(children)}"
            raise ValueError(msg)
        self._frozen = [children[name].requires_grad_(requires_grad=False) for name in layers]
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As of any module, except that frozen layers stay in evaluation mode."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """RGB (n, 3, 112, 112), values 0-255 -> "embedding" (n, 128), attribute -> logits, "shares" (n, tasks)."""
        embedding = self.backbone((pixels - 127.5) / 128.0).float()
        # Components of a unit vector are small; branches learn at the usual rates from components of unit variance.
        features = embedding * EMBEDDING_SIZE**0.5
        outputs = {attribute: branch(features) for attribute, branch in self.branches.items()}
        return {"embedding": embedding, **outputs, SHARES: self.shares(features)}
