"""The training loop of every network: one-cycle learning rate, EMA weights, checkpoints to resume from."""

import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from faceattr_udf.arrays import Float32Array
from faceattr_udf.datasets.labeled_faces import LabeledFaces
from faceattr_udf.errors import WeightsError
from faceattr_udf.evaluation.metrics import measure
from faceattr_udf.labels import ATTRIBUTES
from faceattr_udf.training.autocast import bfloat16_autocast
from faceattr_udf.training.data.loader import TrainingData, prefetch_batches, to_channels_first
from faceattr_udf.training.ema import make_ema
from faceattr_udf.training.log import Log
from faceattr_udf.training.objectives import Batch, Objective, mixup_loss
from faceattr_udf.training.settings import OptimSettings, TrainingSettings

_CHECKPOINT_SECONDS = 300.0
_LOG_STEPS = 25
_MAX_GRADIENT_NORM = 5.0


@dataclass(slots=True, eq=False)
class TrainingState:
    """What a checkpoint holds.

    Attributes:
        network: The trained network.
        ema: Moving average of its weights.
        optimizer: The optimizer of its weights.
        step: How many steps are done.
    """

    network: nn.Module
    ema: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, network: nn.Module, settings: OptimSettings) -> "TrainingState":
        """Returns the state of a network before the first step."""
        return cls(network, make_ema(network, settings.ema_decay), _make_optimizer(network, settings))

    def save(self, path: Path) -> None:
        """Writes a checkpoint; a process killed while writing leaves the previous one intact."""
        partial = path.with_suffix(".part")
        torch.save(
            {
                "network": self.network.state_dict(),
                "averaged": self.ema.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
            },
            partial,
        )
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Reads a checkpoint of the same network and optimizer.

        Raises:
            WeightsError: The file is not such a checkpoint.
        """
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict(saved["network"])
            self.ema.module.load_state_dict(saved["averaged"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step = saved["step"]
            self.ema.n_averaged.fill_(1 + self.step)
        except (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, pickle.UnpicklingError) as error:
            msg = f"{path} is not a checkpoint of this training run; delete it to start from the beginning"
            raise WeightsError(msg) from error


def one_cycle_factor(step: int, steps: int, warmup: float) -> float:
    """Returns the learning rate of a step, from 0, relative to the peak: linear warm-up, then cosine to zero.

    Args:
        step: Counted from 0.
        steps: Steps of the whole run.
        warmup: Share of the steps that warm up.
    """
    warmup_steps = max(1, round(warmup * steps))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def train(
    network: nn.Module,
    objective: Objective,
    data: TrainingData,
    settings: TrainingSettings,
    *,
    size: int,
    log: Log,
    checkpoint: Path | None = None,
) -> nn.Module:
    """Trains a network.

    Args:
        network: RGB (n, 3, size, size), 0-255 -> outputs by name; parameters that require no gradient are frozen.
        objective: The function to minimize.
        data: Faces with their labels and soft labels.
        settings: Settings of the run.
        size: Side of the network's input, pixels.
        log: Receives metrics every few steps.
        checkpoint: File to resume from where it exists, written every five minutes.

    Returns:
        The network with its EMA weights, in evaluation mode.
    """
    torch.manual_seed(settings.seed)
    device = torch.device(settings.device)
    state = TrainingState.start(network.to(device).to(memory_format=torch.channels_last), settings.optim)
    # dynamic=False compiles once per resolution, which runs faster than one program for all of them.
    forward = torch.compile(state.network, dynamic=False) if settings.torch_compile else state.network
    if checkpoint and checkpoint.exists():
        state.restore(checkpoint)
        log({"resumed_at_step": state.step})
    steps = max(1, round(settings.optim.epochs * len(data.faces) / settings.optim.batch_size))
    schedule = _make_schedule(state, steps, settings.optim)
    eval_steps = _eval_steps(steps, settings.num_evals)
    started, saved_at, first = time.monotonic(), time.monotonic(), state.step
    for batch in prefetch_batches(data, size, settings, state.step, steps):
        metrics = _train_step(state, forward, objective, batch.to(device), bfloat16=settings.bfloat16)
        schedule.step()
        state.step += 1
        if state.step % _LOG_STEPS == 0 or state.step == steps:
            speed = (state.step - first) * settings.optim.batch_size / (time.monotonic() - started)
            rounded = {name: round(value, 4) for name, value in metrics.items()}
            log({"step": state.step, "steps": steps, "faces_per_s": round(speed, 1), **rounded})
        if data.validation and state.step in eval_steps:
            log({"validated_at_step": state.step, **validate(state.ema, data.validation)})
        if checkpoint and (time.monotonic() - saved_at > _CHECKPOINT_SECONDS or state.step == steps):
            state.save(checkpoint)
            saved_at = time.monotonic()
    averaged: nn.Module = state.ema.module
    return averaged.cpu().eval()


def predict(network: nn.Module, faces: LabeledFaces, batch_size: int = 256) -> dict[str, Float32Array]:
    """Returns the outputs of a network for production crops: name -> float32 (n, d)."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        outputs = [
            network(to_channels_first(np.array(faces.crops[start : start + batch_size])).to(device).float())
            for start in range(0, len(faces), batch_size)
        ]
    return {name: torch.cat([output[name] for output in outputs]).cpu().numpy() for name in outputs[0]}


def validate(network: nn.Module, faces: LabeledFaces) -> dict[str, float]:
    """Returns the metrics of a network, not yet calibrated, on production crops."""
    logits = predict(network, faces)
    probabilities = {name: _softmax(values) for name, values in logits.items() if name in ATTRIBUTES}
    scores = measure(probabilities, faces, np.ones(len(faces), dtype=bool))
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def _make_optimizer(network: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _make_schedule(state: TrainingState, steps: int, settings: OptimSettings) -> LambdaLR:
    for group in state.optimizer.param_groups:
        group["initial_lr"] = settings.learning_rate  # where LambdaLR reads the peak when it resumes
    return LambdaLR(
        state.optimizer, lambda step: one_cycle_factor(step, steps, settings.warmup), last_epoch=state.step - 1
    )


def _train_step(
    state: TrainingState,
    forward: Callable[[torch.Tensor], dict[str, torch.Tensor]],
    objective: Objective,
    batch: Batch,
    *,
    bfloat16: bool,
) -> dict[str, float]:
    state.network.train()
    with bfloat16_autocast(batch.views.device, enabled=bfloat16):
        outputs = forward(batch.views)
    loss, metrics = mixup_loss(objective, outputs, batch)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stub is untyped
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), _MAX_GRADIENT_NORM)
    state.optimizer.step()
    state.ema.update_parameters(state.network)
    return {"loss": float(loss.detach())} | metrics


def _eval_steps(steps: int, count: int) -> set[int]:
    return {round(steps * (k + 1) / count) for k in range(count)}


def _softmax(logits: Float32Array) -> Float32Array:
    return torch.softmax(torch.from_numpy(logits), dim=1).numpy()
