"""The training loop of every network: one cycle, averaged weights, checkpoints that resume."""

import copy
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceattr_udf.attributes.labels import ATTRIBUTES
from faceattr_udf.datasets.labelled_faces import LabelledFaces
from faceattr_udf.errors import WeightsError
from faceattr_udf.evaluation.metrics import measure
from faceattr_udf.training.autocast import bfloat16
from faceattr_udf.training.data.loader import drawn_ahead, pixels
from faceattr_udf.training.distillation import SoftLabels
from faceattr_udf.training.ema import average
from faceattr_udf.training.objectives import Batch, Objective, loss_of_mixed
from faceattr_udf.training.settings import TrainingSettings

Log = Callable[[dict[str, Any]], None]

_CHECKPOINT_SECONDS = 300.0
_LOG_STEPS = 25


@dataclass(slots=True, eq=False)
class _State:
    network: nn.Module
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0

    def save(self, path: Path) -> None:
        partial = path.with_suffix(".part")
        torch.save(
            {
                "network": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
            },
            partial,
        )
        partial.replace(path)  # a kill while writing leaves the previous checkpoint whole

    def restore(self, path: Path) -> None:
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict(saved["network"])
            self.averaged.load_state_dict(saved["averaged"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step = saved["step"]
        except (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, pickle.UnpicklingError) as error:
            msg = f"checkpoint {path} is not one of this training; delete it to begin anew"
            raise WeightsError(msg) from error


def learning_rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """One cycle: linear warm-up to the peak, then cosine to zero."""
    warmup = max(1, round(settings.warmup * steps))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(
    network: nn.Module,
    objective: Objective,
    faces: LabelledFaces,
    settings: TrainingSettings,
    *,
    size: int,
    log: Log,
    soft: SoftLabels | None = None,
    validation: LabelledFaces | None = None,
    checkpoint: Path | None = None,
) -> nn.Module:
    """Trains a network.

    Args:
        network: RGB (n, 3, size, size), 0-255 -> outputs by name; parameters that need no gradient stay as they are.
        objective: What is minimised.
        faces: Training faces, cut with `augment.source_margin`.
        settings: Of the run.
        size: Side of the network's input, pixels.
        log: Takes one dictionary of figures every few steps.
        soft: What teachers say about the training faces.
        validation: Faces cut to `size`, of which the log takes figures now and then.
        checkpoint: File to resume from if it is there, and to save to every five minutes.

    Returns:
        The network with averaged weights, in evaluation mode.
    """
    torch.manual_seed(settings.seed)
    device = torch.device(settings.device)
    network = network.to(device).to(memory_format=torch.channels_last)
    state = _State(network, copy.deepcopy(network).eval(), _optimizer(network, settings))
    # One program per resolution: one for all of them would be slower.
    forward = torch.compile(network, dynamic=False) if settings.compiled else network
    if checkpoint and checkpoint.exists():
        state.restore(checkpoint)
        log({"resumed_at_step": state.step})
    steps = max(1, round(settings.epochs * len(faces) / settings.batch_size))
    watched = _validation_steps(steps, settings.validations)
    started, saved_at, first = time.monotonic(), time.monotonic(), state.step
    for drawn in drawn_ahead(faces, soft or {}, size, state.step, steps, settings):
        batch = drawn.on(device)
        losses = _train_step(state, forward, objective, batch, learning_rate(state.step, steps, settings), settings)
        state.step += 1
        if state.step % _LOG_STEPS == 0 or state.step == steps:
            speed = (state.step - first) * settings.batch_size / (time.monotonic() - started)
            figures = {name: round(value, 4) for name, value in losses.items()}
            log({"step": state.step, "steps": steps, "faces_per_s": round(speed, 1), **figures})
        if validation and state.step in watched:
            log({"validated_at_step": state.step, **validate(state.averaged, validation)})
        if checkpoint and (time.monotonic() - saved_at > _CHECKPOINT_SECONDS or state.step == steps):
            state.save(checkpoint)
            saved_at = time.monotonic()
    return state.averaged.cpu().eval()


def predict(network: nn.Module, faces: LabelledFaces, batch_size: int = 256) -> dict[str, npt.NDArray[np.float32]]:
    """Outputs of faces cut to production's size: name -> float32 (n, d)."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        outputs = [
            network(pixels(np.array(faces.crops[start : start + batch_size])).to(device).float())
            for start in range(0, len(faces), batch_size)
        ]
    return {name: torch.cat([output[name] for output in outputs]).cpu().numpy() for name in outputs[0]}


def validate(network: nn.Module, faces: LabelledFaces) -> dict[str, float]:
    """The figures of a network, not yet calibrated, on faces cut to production's size."""
    logits = predict(network, faces)
    probabilities = {name: _softmax(values) for name, values in logits.items() if name in ATTRIBUTES}
    scores = measure(probabilities, faces, np.ones(len(faces), dtype=bool))
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def _optimizer(network: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _train_step(  # noqa: PLR0917 - one caller
    state: _State,
    forward: Callable[[torch.Tensor], dict[str, torch.Tensor]],
    objective: Objective,
    batch: Batch,
    rate: float,
    settings: TrainingSettings,
) -> dict[str, float]:
    state.network.train()
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    with bfloat16(batch.views.device, wanted=settings.bfloat16):
        outputs = forward(batch.views)
    total, figures = loss_of_mixed(objective, outputs, batch)
    state.optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]  # torch's stub is untyped
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 5.0)
    state.optimizer.step()
    average(state.averaged, state.network, settings.average, state.step)
    return {"loss": float(total.detach())} | figures


def _validation_steps(steps: int, times: int) -> set[int]:
    return {round(steps * (k + 1) / times) for k in range(times)}


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return torch.softmax(torch.from_numpy(logits), dim=1).numpy()
