"""The multi-task FaceNet: Inception-ResNet-v1 with a 128-d embedding and one branch per attribute.

It is one of the three reference systems that the default model is compared with; the others are `networks.grey` and the
SVMs on this embedding. It combines

- the embedding of Schroff, Kalenichenko, Philbin 2015, "FaceNet: A Unified Embedding for Face Recognition and
  Clustering" (arXiv 1503.03832), and
- the dynamic loss weights of Yin, Liu 2018, "Multi-Task Convolutional Neural Network for Pose-Invariant Face
  Recognition" (arXiv 1702.04710).
"""

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from facenet_pytorch.models.inception_resnet_v1 import InceptionResnetV1
from torch import nn

from faceattr_udf.labels import NUM_CLASSES

INPUT_SIZE = 112
EMBEDDING_SIZE = 128
SHARES = "shares"
"""Name of the output that each task's share of the loss is computed from."""

_FEATURES = 1792
_BRANCH = 128


class MultitaskFacenet(nn.Module):
    """Face pixels -> embedding, logits per attribute, logits of the tasks' shares of the loss.

    Attributes:
        backbone: facenet-pytorch's Inception-ResNet-v1 with 128 outputs, which it L2-normalizes.
        branches: Attribute -> fully connected, ReLU, dropout, fully connected. They return logits: softmax is applied
            by the loss and by `inference.wrappers.ProbabilityOutputs`.
        shares: Embedding -> one logit per task.
    """

    def __init__(self, dropout: float = 0.4, num_classes: Mapping[str, int] = NUM_CLASSES) -> None:
        super().__init__()
        self.backbone = InceptionResnetV1(pretrained=None, classify=False, dropout_prob=dropout)
        self.backbone.last_linear = nn.Linear(_FEATURES, EMBEDDING_SIZE, bias=False)
        self.backbone.last_bn = nn.BatchNorm1d(EMBEDDING_SIZE, eps=1e-3)
        self.branches = nn.ModuleDict(
            {
                attribute: nn.Sequential(
                    nn.Linear(EMBEDDING_SIZE, _BRANCH), nn.ReLU(), nn.Dropout(dropout), nn.Linear(_BRANCH, size)
                )
                for attribute, size in num_classes.items()
            }
        )
        self.shares = nn.Linear(EMBEDDING_SIZE, len(num_classes))
        self._frozen: list[nn.Module] = []

    def freeze(self, layers: Sequence[str]) -> None:
        """Freezes layers of the backbone: their weights and their batch statistics.

        Args:
            layers: Names of child modules of the backbone, e.g. "conv2d_1a" and "repeat_1".

        Raises:
            ValueError: The backbone has no such child.
        """
        children = dict(self.backbone.named_children())
        unknown = sorted(set(layers) - set(children))
        if unknown:
            msg = f"Inception-ResNet-v1 has no layer {', '.join(unknown)}; its layers are {', '.join(children)}"
            raise ValueError(msg)
        self._frozen = [children[name].requires_grad_(requires_grad=False) for name in layers]
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Sets training or evaluation mode; frozen layers stay in evaluation mode."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """RGB (n, 3, 112, 112), values 0-255 -> "embedding" (n, 128), attribute -> logits, "shares" (n, tasks)."""
        embedding = self.backbone((pixels - 127.5) / 128.0).float()
        # Scaled to unit variance, so that the branches learn at the usual rates: components of a unit vector are small.
        features = embedding * EMBEDDING_SIZE**0.5
        outputs = {attribute: branch(features) for attribute, branch in self.branches.items()}
        return {"embedding": embedding, **outputs, SHARES: self.shares(features)}
