"""Fits the prefilter: the two highest-scoring blocks of every face should pass, and blocks without a face should not.

Several blocks lead to the same face, and which of them should pass is learned (multiple-instance learning, Dietterich
et al. 1997): after one and two thirds of the steps the targets become the two blocks of each face that the network
scores highest.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from faceattr_udf.arrays import Float32Array, UInt8Array
from faceattr_udf.detection.prefilter import block_grid, should_prefilter
from faceattr_udf.networks.screen import STRIDE, ScreenNet
from faceattr_udf.training.ema import make_ema
from faceattr_udf.training.log import Log
from faceattr_udf.training.prefilter.targets import Targets

_PATCH = 24
"""Side of a training patch, blocks."""

_EDGE = 4
"""Blocks at the edge of a patch that are ignored: their receptive field reaches beyond the patch."""

_BATCH = 48
_LEARNING_RATE = 3e-3
_EMA_DECAY = 0.995
_FACE_WEIGHT = 4.0
_BLOCKS_PER_FACE = 2
_BACKGROUND, _IGNORED, _FACE = 0, 1, 2
_RECALLS: Final = (0.9, 0.95, 0.99, 0.995)


def fit(scenes: Sequence[Targets], validation: Sequence[Targets], steps: int, log: Log) -> ScreenNet:
    """Trains a prefilter.

    Args:
        scenes: Training scenes.
        validation: Scenes on which the log measures how many blocks pass at a given recall.
        steps: Steps of 48 patches each.
        log: Receives metrics.

    Returns:
        The network with its EMA weights, in evaluation mode.
    """
    torch.manual_seed(0)
    network = ScreenNet().to(memory_format=torch.channels_last)
    ema = make_ema(network, _EMA_DECAY)
    optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, steps, pct_start=0.1)
    patches = _PatchSampler(scenes)
    patches.label_blocks(None)
    with ThreadPoolExecutor(1) as pool:
        next_batch = pool.submit(patches.batch)
        for step in range(1, steps + 1):
            pixels, labels = next_batch.result()
            if step in {steps // 3, 2 * steps // 3}:
                patches.label_blocks(ema)
            next_batch = pool.submit(patches.batch)
            loss = _step(network, optimizer, pixels, labels)
            schedule.step()
            ema.update_parameters(network)
            if step % 400 == 0 or step == steps:
                passing = percent_passing(ema, validation)
                log({"step": step, "steps": steps, "loss": round(loss, 4), "passing": passing})
    averaged = ema.module
    assert isinstance(averaged, ScreenNet)  # noqa: S101 - narrows the type
    return averaged


def block_logits(network: nn.Module, scene: Targets) -> list[Float32Array]:
    """Returns the logits of all blocks of a scene, float32 (rows, columns) per level."""
    with torch.inference_mode():
        return [network(_pixels(half)[None])[0].numpy() for half in scene.halves]


def percent_passing(network: nn.Module, scenes: Sequence[Targets]) -> dict[str, float]:
    """Returns recall -> per cent of the blocks in prefiltered levels that pass at the threshold of that recall."""
    levels = [
        logits
        for scene in scenes
        for half, logits in zip(scene.halves, block_logits(network, scene), strict=True)
        if _is_prefiltered(half)
    ]
    blocks = np.concatenate([level.ravel() for level in levels])
    thresholds = recall_thresholds(network, scenes, _RECALLS)
    return {
        str(recall): round(100.0 * float((blocks >= threshold).mean()), 2)
        for recall, threshold in zip(_RECALLS, thresholds, strict=True)
    }


def recall_thresholds(network: nn.Module, scenes: Sequence[Targets], recalls: Sequence[float]) -> list[float]:
    """Returns the highest logit threshold for each recall.

    A face is found where one of its blocks passes or lies in a level that is not prefiltered.
    """
    best = []
    for scene in scenes:
        levels, prefiltered = block_logits(network, scene), [_is_prefiltered(half) for half in scene.halves]
        best += [
            max(levels[k][row, column] if prefiltered[k] else np.inf for k, row, column in face) for face in scene.faces
        ]
    ranked = np.sort(best)
    return [float(ranked[int((1.0 - recall) * len(ranked))]) for recall in recalls]


def _is_prefiltered(half: UInt8Array) -> bool:
    return should_prefilter(2 * half.shape[0], 2 * half.shape[1])


class _PatchSampler:
    """Draws random patches of half-size levels with a label per block."""

    def __init__(self, scenes: Sequence[Targets]) -> None:
        self._scenes = scenes
        self._halves = [half for scene in scenes for half in scene.halves]
        self._labels = [np.zeros(block_grid(*half.shape[:2]), np.uint8) for half in self._halves]
        self._areas = np.cumsum([label.size for label in self._labels])
        self._faces: list[tuple[int, int, int]] = []
        self._random = np.random.default_rng(1)

    def label_blocks(self, network: nn.Module | None) -> None:
        """Labels the two blocks of every face with the highest logits, or all of its blocks without a network."""
        self._faces, first = [], 0
        for scene in self._scenes:
            levels = block_logits(network, scene) if network else None
            labels = self._labels[first : first + len(scene.halves)]
            for label in labels:
                label[:] = _BACKGROUND
            for face in scene.faces:
                for level, row, column in face:
                    labels[level][row, column] = max(labels[level][row, column], _IGNORED)
            for face in scene.faces:
                logits = np.array([levels[k][row, column] if levels else 0.0 for k, row, column in face])
                for level, row, column in face[np.argsort(-logits)[: _BLOCKS_PER_FACE if levels else len(face)]]:
                    labels[level][row, column] = _FACE
                    self._faces.append((first + int(level), int(row), int(column)))
            first += len(scene.halves)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws a batch: half of the patches contain a face, half are random."""
        pixels, labels = [], []
        for number in range(_BATCH):
            if number % 2:
                which, row, column = self._faces[self._random.integers(len(self._faces))]
            else:
                which = int(np.searchsorted(self._areas, self._random.random() * self._areas[-1]))
                row, column = (int(self._random.integers(side)) for side in self._labels[which].shape)
            patch, label = self._crop(which, row, column)
            pixels.append(_pixels(patch))
            labels.append(torch.from_numpy(label))
        return torch.stack(pixels), torch.stack(labels)

    def _crop(self, which: int, row: int, column: int) -> tuple[UInt8Array, UInt8Array]:
        half, labels = self._halves[which], self._labels[which]
        patch = np.full((_PATCH * STRIDE, _PATCH * STRIDE, 3), 127, np.uint8)
        label = np.full((_PATCH, _PATCH), _IGNORED, np.uint8)
        top, left = (
            int(np.clip(index - self._random.integers(_EDGE, _PATCH - _EDGE), 0, max(0, side - _PATCH)))
            for index, side in zip((row, column), labels.shape, strict=True)
        )
        visible = half[top * STRIDE : (top + _PATCH) * STRIDE, left * STRIDE : (left + _PATCH) * STRIDE]
        patch[: visible.shape[0], : visible.shape[1]] = visible
        visible_labels = labels[top : top + _PATCH, left : left + _PATCH]
        label[: visible_labels.shape[0], : visible_labels.shape[1]] = visible_labels
        if top > 0:
            label[:_EDGE] = _IGNORED
        if left > 0:
            label[:, :_EDGE] = _IGNORED
        if top + _PATCH < labels.shape[0]:
            label[-_EDGE:] = _IGNORED
        if left + _PATCH < labels.shape[1]:
            label[:, -_EDGE:] = _IGNORED
        if self._random.random() < 0.3:
            relit = patch * self._random.uniform(0.75, 1.25) + self._random.uniform(-20, 20)
            patch = np.clip(relit, 0, 255).astype(np.uint8)
        return patch, label


def _pixels(half: UInt8Array) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([half, np.zeros_like(half[..., :1])], axis=2))


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, pixels: torch.Tensor, labels: torch.Tensor) -> float:
    network.train()
    logits = network(pixels)
    weights = torch.where(labels == _FACE, _FACE_WEIGHT, torch.where(labels == _IGNORED, 0.0, 1.0))
    losses = binary_cross_entropy_with_logits(logits, (labels == _FACE).float(), reduction="none")
    loss = (losses * weights).sum() / weights.sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stub is untyped
    optimizer.step()
    return float(loss.detach())
