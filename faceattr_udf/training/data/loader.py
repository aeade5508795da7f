"""The batches of a run: which faces, which views of them, drawn ahead of the network."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from faceattr_udf.datasets.labelled_faces import UNLABELLED, LabelledFaces
from faceattr_udf.training.data.augment import augment
from faceattr_udf.training.data.sampling import batches, face_weights, label_kinds, partners, with_people
from faceattr_udf.training.distillation import SoftLabels
from faceattr_udf.training.objectives import Batch
from faceattr_udf.training.settings import TrainingSettings


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A batch as it was drawn.

    Attributes:
        batch: Its views are bytes.
        share: Of a view itself, where views are mixed.
        order: The place of the view that is mixed into each; None: none is.
    """

    batch: Batch
    share: float = 1.0
    order: torch.Tensor | None = None

    def on(self, device: torch.device) -> Batch:
        """The batch, mixed, where the network computes."""
        batch = self.batch.on(device)
        return batch if self.order is None else batch.mixed(self.share, self.order.to(device))


def drawn_ahead(  # noqa: PLR0917 - one caller
    faces: LabelledFaces, soft: SoftLabels, size: int, first: int, steps: int, settings: TrainingSettings
) -> Iterator[Drawn]:
    """The batches of the steps from `first` on; the next ones are drawn while the network is busy with one.

    Args:
        faces: Training faces, cut with `augment.source_margin`.
        soft: What teachers say about them.
        size: Side of the network's input, pixels; where the settings know no other.
        first: The step to begin with.
        steps: Of the whole run.
        settings: Of the run.
    """
    indices = batches(face_weights(faces, settings.sources, settings.balance), settings.batch_size, settings.seed)
    people = np.where(np.isin(faces.source, settings.facenet.identity_sources), faces.identity, UNLABELLED)
    if (people != UNLABELLED).any():
        indices = with_people(
            indices, people, settings.facenet.people, settings.facenet.faces_per_person, settings.seed
        )

    kinds = label_kinds(faces)

    def draw(step: int, index: npt.NDArray[np.int64]) -> Drawn:
        random = np.random.default_rng((settings.seed, step))  # of the step, so that a resumed run draws the same
        side = _resolution(step, steps, size, settings)
        views = augment(np.asarray(faces.crops[index]), side, random, settings.augmentation)
        batch = Batch(
            views=pixels(views),
            age_range=torch.from_numpy(faces.age_range[index]),
            labels={attribute: torch.from_numpy(values[index]) for attribute, values in faces.labels.items()},
            identity=torch.from_numpy(people[index]),
            soft={name: torch.from_numpy(values[index].astype(np.float32)) for name, values in soft.items()},
        )
        if not settings.mixup:
            return Drawn(batch)
        share = random.beta(settings.mixup, settings.mixup)
        return Drawn(batch, share, torch.from_numpy(partners(kinds[index], random)))

    with ThreadPoolExecutor(settings.workers) as pool:
        pending: deque[Future[Drawn]] = deque()
        for step, index in islice(enumerate(indices), first, steps):
            pending.append(pool.submit(draw, step, index))
            if len(pending) > settings.workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def pixels(crops: npt.NDArray[np.uint8]) -> torch.Tensor:
    """RGB (n, height, width, 3) -> uint8 (n, 3, height, width), the same memory, which is torch's channels_last."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def _resolution(step: int, steps: int, size: int, settings: TrainingSettings) -> int:
    reached = [side for share, side in settings.resolution if step >= share * steps]
    return reached[-1] if reached else size
