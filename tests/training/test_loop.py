from pathlib import Path

import numpy as np
import pytest
import torch
from face_sets import labeled_faces
from torch import nn

from faceattr_udf.training import loop
from faceattr_udf.training.data.loader import TrainingData
from faceattr_udf.training.loop import one_cycle_factor, train
from faceattr_udf.training.objectives import Batch, Outputs, WeightedSum
from faceattr_udf.training.settings import TrainingSettings

COUNT, SIZE, STEPS = 24, 16, 6
SETTINGS = TrainingSettings.model_validate({"optim": {"batch_size": 8, "epochs": 2.0}})


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4, 2)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"gender": self.head(self.features(pixels / 255.0))}


class _InterruptionError(Exception):
    pass


class _InterruptedObjective(WeightedSum):
    """Interrupts training in its fourth step."""

    calls = 0

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        self.calls += 1
        if self.calls > 3:
            raise _InterruptionError
        return super().__call__(outputs, batch)


def _train(objective: WeightedSum, checkpoint: Path | None = None) -> tuple[dict[str, torch.Tensor], list[dict]]:
    crops = np.random.default_rng(0).integers(0, 256, (COUNT, 18, 18, 3), dtype=np.uint8)
    faces = labeled_faces(["a"] * COUNT, [(30, 30)] * COUNT, crops=crops, gender=[0, 1] * (COUNT // 2))
    torch.manual_seed(1)
    lines: list[dict] = []
    network = train(
        _Network(), objective, TrainingData(faces), SETTINGS, size=SIZE, log=lines.append, checkpoint=checkpoint
    )
    return network.state_dict(), lines


@pytest.mark.parametrize(("step", "factor"), [(0, 0.25), (3, 1.0), (4, 1.0), (12, 0.5), (20, 0.0)])
def test_learning_rate_warms_up_and_decays(step: int, factor: float) -> None:
    assert one_cycle_factor(step, steps=20, warmup=0.2) == pytest.approx(factor)


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", -1.0)  # a checkpoint after every step
    expected, _ = _train(WeightedSum(SETTINGS))
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(_InterruptionError):
        _train(_InterruptedObjective(SETTINGS), checkpoint)
    resumed, lines = _train(WeightedSum(SETTINGS), checkpoint)
    assert lines[0] == {"resumed_at_step": 3}
    assert lines[-1]["step"] == STEPS
    for name, values in expected.items():
        assert torch.equal(resumed[name], values), name
