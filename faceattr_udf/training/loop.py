"""The training loop of the default network: one cycle, averaged weights, checkpoints that resume."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.evaluation.faces import LabelledFaces
from faceattr_udf.networks.mobilenet import HEADS, INPUT_SIZE, MobileNetV1
from faceattr_udf.training.augment import augment, center_window
from faceattr_udf.training.initial import load_faceres
from faceattr_udf.training.losses import task_losses
from faceattr_udf.training.settings import TrainingSettings

Log = Callable[[dict[str, Any]], None]

_CHECKPOINT_SECONDS = 300.0
_LOG_STEPS = 25
_STATISTICS_FACES = 512


@dataclass(slots=True, eq=False)
class _State:
    network: MobileNetV1
    averaged: MobileNetV1
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0

    def save(self, path: Path) -> None:
        partial = path.with_suffix(".part")
        torch.save(
            {
                "network": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
                "step": self.step,
            },
            partial,
        )
        partial.replace(path)  # a kill while writing leaves the previous checkpoint whole

    def restore(self, path: Path) -> None:
        saved = torch.load(path, weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.averaged.load_state_dict(saved["averaged"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.generator.set_state(saved["generator"])
        self.step = saved["step"]


def learning_rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """One cycle: linear warm-up to the peak, then cosine to zero."""
    warmup = max(1, round(settings.warmup * steps))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(faces: LabelledFaces, settings: TrainingSettings, log: Log, checkpoint: Path | None = None) -> MobileNetV1:
    """Trains the default network.

    Args:
        faces: Training faces, cut `augment.SOURCE_SIZE` px wide.
        settings: Of the run.
        log: Takes one dictionary of figures every few steps.
        checkpoint: File to resume from if it is there, and to save to every five minutes.

    Returns:
        The network with averaged weights, in evaluation mode.
    """
    torch.manual_seed(settings.seed)
    state = _start(faces, settings)
    if checkpoint and checkpoint.exists():
        state.restore(checkpoint)
        log({"resumed_at_step": state.step})
    steps = max(1, round(settings.epochs * len(faces) / settings.batch_size))
    order = _order(len(faces), steps, settings)
    started, saved_at, first = time.monotonic(), time.monotonic(), state.step
    while state.step < steps:
        rate = learning_rate(state.step, steps, settings)
        losses = _train_step(state, faces, order[state.step], rate, settings)
        state.step += 1
        if state.step % _LOG_STEPS == 0 or state.step == steps:
            seconds = time.monotonic() - started
            speed = (state.step - first) * settings.batch_size / seconds
            figures = {name: round(value, 4) for name, value in losses.items()}
            log({"step": state.step, "steps": steps, "rate": rate, "faces_per_s": round(speed, 1), **figures})
        if checkpoint and time.monotonic() - saved_at > _CHECKPOINT_SECONDS:
            state.save(checkpoint)
            saved_at = time.monotonic()
    if checkpoint:
        state.save(checkpoint)
    return state.averaged.eval()


def _start(faces: LabelledFaces, settings: TrainingSettings) -> _State:
    network = MobileNetV1(settings.dropout)
    if settings.initial:
        chosen = np.sort(np.random.default_rng(settings.seed).permutation(len(faces))[:_STATISTICS_FACES])
        window = center_window(torch.from_numpy(np.asarray(faces.crops[chosen])).permute(0, 3, 1, 2), INPUT_SIZE)
        load_faceres(network, Path(settings.initial), window.permute(0, 2, 3, 1).numpy())
    network = network.to(memory_format=torch.channels_last)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=settings.learning_rate,
    )
    return _State(network, copy.deepcopy(network).eval(), optimizer, torch.Generator().manual_seed(settings.seed))


def _order(count: int, steps: int, settings: TrainingSettings) -> list[npt.NDArray[np.int64]]:
    random = np.random.default_rng(settings.seed)
    passes = math.ceil(steps * settings.batch_size / count)
    faces = np.concatenate([random.permutation(count) for _ in range(passes)])
    return [np.sort(faces[i * settings.batch_size : (i + 1) * settings.batch_size]) for i in range(steps)]


def _train_step(
    state: _State, faces: LabelledFaces, index: npt.NDArray[np.int64], rate: float, settings: TrainingSettings
) -> dict[str, float]:
    state.network.train()
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    crops = torch.from_numpy(np.asarray(faces.crops[index])).permute(0, 3, 1, 2).float()
    views = augment(crops, INPUT_SIZE, state.generator).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        outputs = state.network(views)
    losses = task_losses(
        outputs,
        torch.from_numpy(faces.age_range[index]),
        {attribute: torch.from_numpy(faces.labels[attribute][index]) for attribute in CLASSES},
        smoothing=settings.smoothing,
        sigma=settings.age_sigma,
        regression=settings.age_regression,
    )
    total = torch.stack([settings.task_weights[name] * loss for name, loss in losses.items()]).sum()
    state.optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]  # torch's stub is untyped
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 5.0)
    state.optimizer.step()
    _average(state, settings.average)
    return {"loss": float(total.detach())} | {name: float(loss.detach()) for name, loss in losses.items()}


def _average(state: _State, decay: float) -> None:
    # Young averages forget their start faster, so that they are useful from the first steps on.
    decay = min(decay, (1.0 + state.step) / (10.0 + state.step))
    with torch.no_grad():
        current = state.network.state_dict()
        for key, value in state.averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[key], 1.0 - decay)
            else:
                value.copy_(current[key])


def predict(network: MobileNetV1, faces: LabelledFaces, batch_size: int = 256) -> dict[str, npt.NDArray[np.float32]]:
    """Logits of faces cut to production's size: attribute -> float32 (n, classes)."""
    network.eval()
    with torch.inference_mode():
        outputs = [network(batch) for batch in _batches(faces, batch_size)]
    batches = [{name: logits.numpy() for name, logits in output.items()} for output in outputs]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in HEADS}


def _batches(faces: LabelledFaces, size: int) -> Iterator[torch.Tensor]:
    for start in range(0, len(faces), size):
        yield torch.from_numpy(np.asarray(faces.crops[start : start + size])).permute(0, 3, 1, 2).float()
