"""Batches: drawn in order, the same again after an interruption, mixed where the network computes."""

import numpy as np
import torch
from face_sets import labelled_faces

from faceattr_udf.training.data.loader import Drawn, drawn_ahead
from faceattr_udf.training.settings import TrainingSettings

CPU = torch.device("cpu")
COUNT = 12


def _draw(first: int = 0, **settings: object) -> list[Drawn]:
    crops = np.random.default_rng(0).integers(0, 256, (COUNT, 37, 37, 3), dtype=np.uint8)
    faces = labelled_faces(["a"] * COUNT, [(age, age) for age in range(COUNT)], crops=crops, gender=[0, 1, -1] * 4)
    soft = {"gender": np.linspace(0, 1, 2 * COUNT, dtype=np.float16).reshape(COUNT, 2)}
    run = TrainingSettings.model_validate({"batch_size": 4, **settings})
    return list(drawn_ahead(faces, soft, 32, first, 6, run))


def _same(one: Drawn, other: Drawn) -> bool:
    return torch.equal(one.batch.views, other.batch.views) and torch.equal(one.batch.age_range, other.batch.age_range)


def test_a_batch_has_the_labels_of_its_faces() -> None:
    drawn = _draw()
    assert len(drawn) == 6
    for batch in (one.batch for one in drawn):
        assert batch.views.dtype == torch.uint8
        assert tuple(batch.views.shape) == (4, 3, 32, 32)
        faces = batch.age_range[:, 0].long()
        assert torch.equal(batch.labels["gender"], torch.tensor([0, 1, -1])[faces % 3])
        expected = np.linspace(0, 1, 2 * COUNT, dtype=np.float16).reshape(COUNT, 2)[faces]
        np.testing.assert_array_equal(batch.soft["gender"], expected.astype(np.float32))


def test_workers_change_nothing() -> None:
    assert all(map(_same, _draw(), _draw(workers=2)))


def test_a_run_that_goes_on_draws_what_it_would_have_drawn() -> None:
    assert all(_same(one, other) for one, other in zip(_draw()[4:], _draw(first=4), strict=True))


def test_other_seeds_draw_other_views() -> None:
    assert not any(map(_same, _draw(), _draw(seed=1)))


def test_the_resolution_changes_on_the_way() -> None:
    sides = [one.batch.views.shape[-1] for one in _draw(resolution=[[0.0, 16], [0.5, 24]])]
    assert sides == [16, 16, 16, 24, 24, 24]


def test_views_are_mixed_as_numbers() -> None:
    (drawn, *_) = _draw(mixup=0.5)
    batch = drawn.on(CPU)
    assert drawn.order is not None
    assert batch.other is not None
    assert batch.share == drawn.share
    own = drawn.batch.views.float()
    torch.testing.assert_close(batch.views, drawn.share * own + (1 - drawn.share) * own[drawn.order])
    assert torch.equal(batch.labels["gender"] < 0, batch.other.labels["gender"] < 0)
    assert torch.equal(batch.other.age_range, drawn.batch.age_range[drawn.order])
