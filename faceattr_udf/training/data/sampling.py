"""Which faces a training step sees: sources by weight, and rare kinds of faces more often than they occur."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.labels import ATTRIBUTES, CLASSES
from faceattr_udf.datasets.labelled_faces import UNLABELLED, LabelledFaces

_LARGEST = 5.0


def face_weights(faces: LabelledFaces, sources: Mapping[str, float], balance: float) -> npt.NDArray[np.float64]:
    """How often each face is seen, with a mean of 1.

    A cell is the faces of one source with the same age group (ten years), gender, ethnicity and emotion.

    Args:
        faces: Labelled.
        sources: Source -> how often its faces are seen, relative to other sources; 1 where it is not named.
        balance: 0 sees faces as often as they occur, 1 sees every cell of a source equally often; between them a face
            weighs (cell's size) ** -balance. No face is seen more than five times as often as its source's mean.

    Returns:
        float64 (n,).
    """
    low, high = faces.age_range.T
    group = np.where(low == UNLABELLED, -1, np.minimum((low + high) / 2.0 // 10.0, 7)).astype(int)
    cells = list(zip(faces.source, group, *(faces.labels[name] for name in CLASSES), strict=True))
    sizes = Counter(cells)
    weights = np.array([sizes[cell] ** -balance for cell in cells])
    for source in np.unique(faces.source):
        members = faces.source == source
        relative = np.minimum(weights[members] / weights[members].mean(), _LARGEST)
        weights[members] = relative / relative.mean() * sources.get(str(source), 1.0)
    return np.asarray(weights / weights.mean(), dtype=np.float64)


def label_kinds(faces: LabelledFaces) -> npt.NDArray[np.int64]:
    """Which attributes a face is labelled for, as a number: equal for faces that are labelled for the same ones."""
    labelled = [faces.labelled(name) for name in ATTRIBUTES]
    return sum((flags.astype(np.int64) << bit for bit, flags in enumerate(labelled)), np.zeros(len(faces), np.int64))


def partners(kinds: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """The place of the face that is mixed into each: one of the same kind, so that both have labels or neither.

    Mixed with faces that lack a label, a network learns to look past them to the face that has it, and sees nothing in
    such faces: of All-Age-Faces, which are mostly East Asian and not labelled so, it named a fifth asian.

    Args:
        kinds: Of the faces of a batch (n,), of `label_kinds`.
        random: The source of all randomness.

    Returns:
        int64 (n,), a permutation.
    """
    order = np.arange(len(kinds))
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        order[members] = random.permutation(members)
    return order


def batches(weights: npt.NDArray[np.float64], size: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Endless batches of sorted indices; in every pass a face comes up floor(weight) or ceil(weight) times.

    Args:
        weights: Of `face_weights`.
        size: Faces per batch.
        seed: Equal seeds give equal batches.
    """
    random = np.random.default_rng(seed)
    rest = np.empty(0, dtype=np.int64)
    while True:
        times = np.floor(weights + random.random(len(weights))).astype(np.int64)
        rest = np.concatenate([rest, random.permutation(np.repeat(np.arange(len(weights)), times))])
        whole = len(rest) // size * size
        yield from np.sort(rest[:whole].reshape(-1, size), axis=1)
        rest = rest[whole:]


def with_people(
    drawn: Iterator[npt.NDArray[np.int64]], identity: npt.NDArray[np.int64], people: int, each: int, seed: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Batches whose first faces come in groups of one person, without which a triplet loss has nothing to compare.

    Args:
        drawn: Batches of at least `people * each` indices.
        identity: int64 (n,); -1 where the person is not known.
        people: Groups per batch; fewer where the data has fewer people with `each` faces.
        each: Faces per group.
        seed: Equal seeds give equal batches.
    """
    random = np.random.default_rng(seed)
    known = np.flatnonzero(identity != UNLABELLED)
    order = known[np.argsort(identity[known], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(identity[order])) + 1)
    large = [group for group in groups if len(group) >= each]
    for index in drawn:
        chosen = random.permutation(len(large))[:people]
        grouped = [random.choice(large[person], each, replace=False) for person in chosen]
        count = sum(map(len, grouped))
        yield np.concatenate([*grouped, random.permutation(index)[count:]]).astype(np.int64)
