import numpy as np
import torch
from face_sets import labeled_faces

from faceattr_udf.training.data.loader import PreparedBatch, TrainingData, prefetch_batches
from faceattr_udf.training.settings import TrainingSettings

CPU = torch.device("cpu")
COUNT = 12


def _batches(first_step: int = 0, seed: int = 0, **data: object) -> list[PreparedBatch]:
    crops = np.random.default_rng(0).integers(0, 256, (COUNT, 37, 37, 3), dtype=np.uint8)
    faces = labeled_faces(["a"] * COUNT, [(age, age) for age in range(COUNT)], crops=crops, gender=[0, 1, -1] * 4)
    soft_labels = {"gender": np.linspace(0, 1, 2 * COUNT, dtype=np.float16).reshape(COUNT, 2)}
    settings = TrainingSettings.model_validate({"seed": seed, "optim": {"batch_size": 4}, "data": data})
    return list(prefetch_batches(TrainingData(faces, soft_labels=soft_labels), 32, settings, first_step, 6))


def _equal(one: PreparedBatch, other: PreparedBatch) -> bool:
    return torch.equal(one.batch.views, other.batch.views) and torch.equal(one.batch.age_range, other.batch.age_range)


def test_batches_hold_the_labels_of_their_faces() -> None:
    prepared = _batches()
    assert len(prepared) == 6
    for batch in (one.batch for one in prepared):
        assert batch.views.dtype == torch.uint8
        assert tuple(batch.views.shape) == (4, 3, 32, 32)
        faces = batch.age_range[:, 0].long()
        assert torch.equal(batch.labels["gender"], torch.tensor([0, 1, -1])[faces % 3])
        expected = np.linspace(0, 1, 2 * COUNT, dtype=np.float16).reshape(COUNT, 2)[faces]
        np.testing.assert_array_equal(batch.soft_labels["gender"], expected.astype(np.float32))


def test_workers_do_not_change_the_batches() -> None:
    assert all(map(_equal, _batches(), _batches(workers=2)))


def test_resumed_run_sees_the_same_batches() -> None:
    assert all(_equal(one, other) for one, other in zip(_batches()[4:], _batches(first_step=4), strict=True))


def test_other_seeds_give_other_views() -> None:
    assert not any(map(_equal, _batches(), _batches(seed=1)))


def test_resolution_follows_the_schedule() -> None:
    sides = [one.batch.views.shape[-1] for one in _batches(resolution_schedule=[[0.0, 16], [0.5, 24]])]
    assert sides == [16, 16, 16, 24, 24, 24]


def test_mixup_interpolates_the_views() -> None:
    (prepared, *_) = _batches(mixup_alpha=0.5)
    batch = prepared.to(CPU)
    assert prepared.partners is not None
    assert batch.partners is not None
    assert batch.mixup_share == prepared.mixup_share
    own = prepared.batch.views.float()
    torch.testing.assert_close(
        batch.views, prepared.mixup_share * own + (1 - prepared.mixup_share) * own[prepared.partners]
    )
    assert torch.equal(batch.labels["gender"] < 0, batch.partners.labels["gender"] < 0)
    assert torch.equal(batch.partners.age_range, prepared.batch.age_range[prepared.partners])
