"""Sampling of training faces: by source, rare faces more often, in groups of one person; and partners for mixup."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from faceattr_udf.arrays import Float32Array, Float64Array, Int64Array
from faceattr_udf.datasets.labeled_faces import UNLABELED, LabeledFaces
from faceattr_udf.labels import ATTRIBUTES, CLASSES

_MAX_RELATIVE_WEIGHT = 5.0


def face_weights(faces: LabeledFaces, sources: Mapping[str, float], balance_exponent: float) -> Float64Array:
    """Returns how often each face is seen per epoch, with a mean of 1.

    A cell is the faces of one source with the same age group (ten years), gender, ethnicity and emotion.

    Args:
        faces: The training faces.
        sources: Source -> how often its faces are seen, relative to other sources; 1 where a source is not named.
        balance_exponent: A face has the weight (size of its cell) ** -balance_exponent: 0 sees all faces equally often,
            1 all cells of a source. No face is seen more than five times as often as the mean of its source.

    Returns:
        float64 (n,).
    """
    low, high = faces.age_range.T
    group = np.where(low == UNLABELED, -1, np.minimum((low + high) / 2.0 // 10.0, 7)).astype(int)
    cells = list(zip(faces.source, group, *(faces.labels[name] for name in CLASSES), strict=True))
    sizes = Counter(cells)
    weights = np.array([sizes[cell] ** -balance_exponent for cell in cells])
    for source in np.unique(faces.source):
        members = faces.source == source
        relative = np.minimum(weights[members] / weights[members].mean(), _MAX_RELATIVE_WEIGHT)
        weights[members] = relative / relative.mean() * sources.get(str(source), 1.0)
    return np.asarray(weights / weights.mean(), dtype=np.float64)


def label_masks(faces: LabeledFaces, votes: Mapping[str, Float32Array]) -> Int64Array:
    """Returns a bit mask per face, int64 (n,): bit k is set where it has a label or votes for the k-th attribute."""
    labeled = [faces.labeled(name) for name in ATTRIBUTES]
    for name, shares in votes.items():
        labeled[ATTRIBUTES.index(name)] |= shares.any(axis=1)
    return sum((flags.astype(np.int64) << bit for bit, flags in enumerate(labeled)), np.zeros(len(faces), np.int64))


def mixup_partners(masks: Int64Array, random: np.random.Generator) -> Int64Array:
    """Chooses the face that is mixed into each face of a batch: one that is labeled for the same attributes.

    Mixed with faces that lack a label, a network learns to ignore those faces and to predict the label of the other
    one. Its predictions for faces without that label then become meaningless: it called only a fifth of All-Age-Faces
    Asian, a mostly East Asian source without labels for ethnicity.

    Args:
        masks: `label_masks` of the batch, (n,).
        random: Generator of all random numbers.

    Returns:
        int64 (n,), a permutation of the indices.
    """
    partners = np.arange(len(masks))
    for mask in np.unique(masks):
        members = np.flatnonzero(masks == mask)
        partners[members] = random.permutation(members)
    return partners


def weighted_batches(weights: Float64Array, batch_size: int, seed: int) -> Iterator[Int64Array]:
    """Yields sorted indices of batches without end; an epoch sees a face floor(weight) or ceil(weight) times.

    Args:
        weights: From `face_weights`.
        batch_size: Faces per batch.
        seed: Equal seeds yield equal batches.
    """
    random = np.random.default_rng(seed)
    rest = np.empty(0, dtype=np.int64)
    while True:
        times = np.floor(weights + random.random(len(weights))).astype(np.int64)
        rest = np.concatenate([rest, random.permutation(np.repeat(np.arange(len(weights)), times))])
        whole = len(rest) // batch_size * batch_size
        yield from np.sort(rest[:whole].reshape(-1, batch_size), axis=1)
        rest = rest[whole:]


def pk_sampler(
    batches: Iterator[Int64Array], identity: Int64Array, people: int, faces_per_person: int, seed: int
) -> Iterator[Int64Array]:
    """Replaces the first P x K faces of each batch by K faces each of P people, for the triplet loss.

    Args:
        batches: Batches of at least `people * faces_per_person` indices.
        identity: int64 (n,); -1 where the person is unknown.
        people: P; fewer where the data has fewer people with K faces.
        faces_per_person: K.
        seed: Equal seeds yield equal batches.
    """
    random = np.random.default_rng(seed)
    known = np.flatnonzero(identity != UNLABELED)
    order = known[np.argsort(identity[known], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(identity[order])) + 1)
    large = [group for group in groups if len(group) >= faces_per_person]
    for index in batches:
        chosen = random.permutation(len(large))[:people]
        grouped = [random.choice(large[person], faces_per_person, replace=False) for person in chosen]
        count = sum(map(len, grouped))
        yield np.concatenate([*grouped, random.permutation(index)[count:]]).astype(np.int64)
