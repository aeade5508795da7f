"""Batches of a training run, augmented by threads while the network trains."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch

from faceattr_udf.arrays import Float32Array, Int64Array, UInt8Array
from faceattr_udf.datasets.labeled_faces import UNLABELED, LabeledFaces
from faceattr_udf.training.data.augment import augment
from faceattr_udf.training.data.sampling import (
    face_weights,
    label_masks,
    mixup_partners,
    pk_sampler,
    weighted_batches,
)
from faceattr_udf.training.distillation import SoftLabels
from faceattr_udf.training.objectives import Batch
from faceattr_udf.training.settings import TrainingSettings


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """The faces of a training run.

    Attributes:
        faces: Training faces, cropped with `augment.training_margin`.
        votes: Attribute -> float32 (n, classes), shares of people's votes for the training faces; empty without votes.
        soft_labels: The teachers' probabilities for the training faces; empty without teachers.
        validation: Production crops that the log takes metrics of; None measures nothing.
    """

    faces: LabeledFaces
    votes: dict[str, Float32Array] = field(default_factory=dict)
    soft_labels: SoftLabels = field(default_factory=dict)
    validation: LabeledFaces | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PreparedBatch:
    """An augmented batch in CPU memory, with the random choices of mixup.

    Attributes:
        batch: Its views are uint8.
        mixup_share: Share of a face itself in its mixed view.
        partners: int64 (n,), index of the face that is mixed into each; None without mixup.
    """

    batch: Batch
    mixup_share: float = 1.0
    partners: torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Moves the batch to a device and mixes it there."""
        batch = self.batch.to(device)
        return batch if self.partners is None else batch.mixup(self.mixup_share, self.partners.to(device))


def prefetch_batches(
    data: TrainingData, size: int, settings: TrainingSettings, first_step: int, steps: int
) -> Iterator[PreparedBatch]:
    """Yields the batches of the steps from `first_step` on; threads prepare the next ones.

    Args:
        data: Training faces and soft labels.
        size: Side of the network's input, pixels, where the settings have no resolution schedule.
        settings: Settings of the run.
        first_step: The step to begin with.
        steps: Steps of the whole run.
    """
    faces, seed = data.faces, settings.seed
    weights = face_weights(faces, settings.data.sources, settings.data.balance_exponent)
    indices = weighted_batches(weights, settings.optim.batch_size, seed)
    people = np.where(np.isin(faces.source, settings.facenet.identity_sources), faces.identity, UNLABELED)
    if (people != UNLABELED).any():
        facenet = settings.facenet
        indices = pk_sampler(indices, people, facenet.people_per_batch, facenet.faces_per_person, seed)
    masks = label_masks(faces, data.votes)

    def prepare(step: int, index: Int64Array) -> PreparedBatch:
        random = np.random.default_rng((seed, step))  # seeded by step, so that a resumed run sees the same views
        side = _resolution(step, steps, size, settings.data.resolution_schedule)
        views = augment(np.asarray(faces.crops[index]), side, random, settings.data.augmentation)
        batch = Batch(
            views=to_channels_first(views),
            age_range=torch.from_numpy(faces.age_range[index]),
            labels={attribute: torch.from_numpy(values[index]) for attribute, values in faces.labels.items()},
            identity=torch.from_numpy(people[index]),
            votes={name: torch.from_numpy(values[index]) for name, values in data.votes.items()},
            soft_labels={
                name: torch.from_numpy(values[index].astype(np.float32)) for name, values in data.soft_labels.items()
            },
        )
        alpha = settings.data.mixup_alpha
        if not alpha:
            return PreparedBatch(batch)
        share = random.beta(alpha, alpha)
        return PreparedBatch(batch, share, torch.from_numpy(mixup_partners(masks[index], random)))

    workers = settings.data.workers
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[PreparedBatch]] = deque()
        for step, index in islice(enumerate(indices), first_step, steps):
            pending.append(pool.submit(prepare, step, index))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def to_channels_first(crops: UInt8Array) -> torch.Tensor:
    """Returns a view of RGB (n, height, width, 3) as (n, 3, height, width), torch's channels_last format."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def _resolution(step: int, steps: int, size: int, schedule: list[tuple[float, int]]) -> int:
    reached = [side for share, side in schedule if step >= share * steps]
    return reached[-1] if reached else size
