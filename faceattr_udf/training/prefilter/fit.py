"""Fitting the screen: of every face its two likeliest blocks shall pass, and where no face is found nothing shall.

Which of the blocks that find a face the screen learns is its own choice (multiple-instance learning, Dietterich et al.
1997): after the first third of the steps, and again after the second, the targets are the blocks it finds easiest.
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from faceattr_udf.detection.prefilter import block_grid, is_screened
from faceattr_udf.networks.screen import STRIDE, ScreenNet
from faceattr_udf.training.ema import average
from faceattr_udf.training.prefilter.targets import Targets

UInt8Array = npt.NDArray[np.uint8]

_PATCH = 24  # blocks
_BATCH = 48
_EDGE = 4  # blocks at a cut edge see what is not there
_LEARNING_RATE = 3e-3
_DECAY = 0.995
_FACE_WEIGHT = 4.0
_CHOSEN = 2
_NOTHING, _IGNORED, _FACE = 0, 1, 2
_RECALLS: Final = (0.9, 0.95, 0.99, 0.995)


def fit(
    pictures: Sequence[Targets], watched: Sequence[Targets], steps: int, log: Callable[[dict[str, Any]], None]
) -> ScreenNet:
    """Trains a screen.

    Args:
        pictures: To learn from.
        watched: Of which the log takes how many blocks must pass for a given share of the faces.
        steps: Of 48 patches each.
        log: Takes figures.

    Returns:
        The network with averaged weights, in evaluation mode.
    """
    torch.manual_seed(0)
    network = ScreenNet().to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, steps, pct_start=0.1)
    patches = _Patches(pictures)
    patches.choose(None)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(patches.batch)
        for step in range(1, steps + 1):
            pixels, labels = following.result()
            if step in {steps // 3, 2 * steps // 3}:
                patches.choose(averaged)
            following = pool.submit(patches.batch)
            loss = _step(network, optimizer, pixels, labels)
            schedule.step()
            average(averaged, network, _DECAY, step - 1)
            if step % 400 == 0 or step == steps:
                log({"step": step, "steps": steps, "loss": round(loss, 4), "passing": passing(averaged, watched)})
    return averaged


def scores(network: nn.Module, picture: Targets) -> list[npt.NDArray[np.float32]]:
    """Log-odds of every block of every level."""
    with torch.inference_mode():
        return [network(_pixels(half)[None])[0].numpy() for half in picture.halves]


def passing(network: nn.Module, pictures: Sequence[Targets]) -> dict[str, float]:
    """Recall -> per cent of the blocks of screened levels that pass where that share of the faces is still found."""
    levels = [
        level
        for picture in pictures
        for half, level in zip(picture.halves, scores(network, picture), strict=True)
        if _is_screened(half)
    ]
    blocks, thresholds = np.concatenate([level.ravel() for level in levels]), lowest(network, pictures, _RECALLS)
    return {
        str(recall): round(100.0 * float((blocks >= threshold).mean()), 2)
        for recall, threshold in zip(_RECALLS, thresholds, strict=True)
    }


def lowest(network: nn.Module, pictures: Sequence[Targets], recalls: Sequence[float]) -> list[float]:
    """The highest thresholds at which these shares of the faces are still found.

    A face is found where one of its blocks passes, or where one is in a level that is not screened.
    """
    best = []
    for picture in pictures:
        levels, screened = scores(network, picture), [_is_screened(half) for half in picture.halves]
        best += [
            max(levels[k][row, column] if screened[k] else np.inf for k, row, column in face) for face in picture.faces
        ]
    ranked = np.sort(best)
    return [float(ranked[int((1.0 - recall) * len(ranked))]) for recall in recalls]


def _is_screened(half: UInt8Array) -> bool:
    return is_screened(2 * half.shape[0], 2 * half.shape[1])


class _Patches:
    """Random cuts of half levels with a label per block."""

    def __init__(self, pictures: Sequence[Targets]) -> None:
        self._pictures = pictures
        self._halves = [half for picture in pictures for half in picture.halves]
        self._labels = [np.zeros(block_grid(*half.shape[:2]), np.uint8) for half in self._halves]
        self._areas = np.cumsum([label.size for label in self._labels])
        self._faces: list[tuple[int, int, int]] = []
        self._random = np.random.default_rng(1)

    def choose(self, network: nn.Module | None) -> None:
        """Labels the two blocks of every face that the network finds easiest; without one, all of them."""
        self._faces, first = [], 0
        for picture in self._pictures:
            levels = scores(network, picture) if network else None
            labels = self._labels[first : first + len(picture.halves)]
            for label in labels:
                label[:] = _NOTHING
            for face in picture.faces:
                for level, row, column in face:
                    labels[level][row, column] = max(labels[level][row, column], _IGNORED)
            for face in picture.faces:
                ease = np.array([levels[k][row, column] for k, row, column in face]) if levels else np.zeros(len(face))
                for level, row, column in face[np.argsort(-ease)[: _CHOSEN if levels else len(face)]]:
                    labels[level][row, column] = _FACE
                    self._faces.append((first + int(level), int(row), int(column)))
            first += len(picture.halves)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Half of the patches have a face, half are from anywhere."""
        pixels, labels = [], []
        for number in range(_BATCH):
            if number % 2:
                which, row, column = self._faces[self._random.integers(len(self._faces))]
            else:
                which = int(np.searchsorted(self._areas, self._random.random() * self._areas[-1]))
                row, column = (int(self._random.integers(side)) for side in self._labels[which].shape)
            patch, label = self._cut(which, row, column)
            pixels.append(_pixels(patch))
            labels.append(torch.from_numpy(label))
        return torch.stack(pixels), torch.stack(labels)

    def _cut(self, which: int, row: int, column: int) -> tuple[UInt8Array, UInt8Array]:
        half, labels = self._halves[which], self._labels[which]
        patch = np.full((_PATCH * STRIDE, _PATCH * STRIDE, 3), 127, np.uint8)
        label = np.full((_PATCH, _PATCH), _IGNORED, np.uint8)
        top, left = (
            int(np.clip(place - self._random.integers(_EDGE, _PATCH - _EDGE), 0, max(0, side - _PATCH)))
            for place, side in zip((row, column), labels.shape, strict=True)
        )
        seen = half[top * STRIDE : (top + _PATCH) * STRIDE, left * STRIDE : (left + _PATCH) * STRIDE]
        patch[: seen.shape[0], : seen.shape[1]] = seen
        part = labels[top : top + _PATCH, left : left + _PATCH]
        label[: part.shape[0], : part.shape[1]] = part
        if top > 0:
            label[:_EDGE] = _IGNORED
        if left > 0:
            label[:, :_EDGE] = _IGNORED
        if top + _PATCH < labels.shape[0]:
            label[-_EDGE:] = _IGNORED
        if left + _PATCH < labels.shape[1]:
            label[:, -_EDGE:] = _IGNORED
        if self._random.random() < 0.3:
            lit = patch * self._random.uniform(0.75, 1.25) + self._random.uniform(-20, 20)
            patch = np.clip(lit, 0, 255).astype(np.uint8)
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
