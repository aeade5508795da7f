"""Which labeled faces calibrate the shares of an attribute, with their labels and scores."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceattr_udf.arrays import Float64Array, Int64Array
from faceattr_udf.datasets.labeled_faces import LabeledFaces
from faceattr_udf.evaluation.metrics import Probabilities, age_group_index, age_group_probabilities, expected_age
from faceattr_udf.evaluation.sources import UNVERIFIED
from faceattr_udf.labels import AGE_GROUPS, age_group
from faceattr_udf.shares.calibrate import calibrate
from faceattr_udf.shares.calibration_file import LABELS
from faceattr_udf.shares.statistics import AGE_GROUP, AttributeStatistics


@dataclass(frozen=True, eq=False)
class Case:
    """The faces that have a label of one attribute, as parallel arrays.

    Attributes:
        labels: The K labels of the attribute.
        truth: (n,), the index of each face's label.
        scores: (n, K), the model's probabilities.
        predicted: (n,), the index of the label for which the model decides: the most probable one, for ages the group
            of the expected age.
        face_px: (n,), shorter side of the box, pixels.
        source: (n,), the data set.
    """

    labels: tuple[str, ...]
    truth: Int64Array
    scores: Float64Array
    predicted: Int64Array
    face_px: Float64Array
    source: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, index: npt.NDArray[np.int_] | npt.NDArray[np.bool_]) -> "Case":
        """Returns the faces at these indices; an index may be repeated."""
        return Case(
            self.labels,
            self.truth[index],
            self.scores[index],
            self.predicted[index],
            self.face_px[index],
            self.source[index],
        )

    def joined(self, other: "Case") -> "Case":
        """Returns these faces, followed by others."""
        mine, theirs = ((one.truth, one.scores, one.predicted, one.face_px, one.source) for one in (self, other))
        return Case(self.labels, *(np.concatenate(pair) for pair in zip(mine, theirs, strict=True)))

    def calibrate(self) -> AttributeStatistics | None:
        """Measures the statistics of these faces; None where a label has too few."""
        return calibrate(
            self.labels,
            truth=self.truth,
            scores=self.scores,
            face_px=self.face_px,
            sources=self.source,
            predicted=self.predicted,
        )


def cases(probabilities: Probabilities, faces: LabeledFaces) -> dict[str, Case]:
    """Returns the faces of every attribute that the model predicts.

    Faces that the cascade did not find are left out, because such faces never reach the tables; so are labels that
    stand for several classes, ranges of ages that span two groups, and labels that nobody verified.

    Returns:
        Attribute, "age_group" for ages -> its faces.
    """
    found = {}
    for attribute, labels in LABELS.items():
        output = "age" if attribute == AGE_GROUP else attribute
        if output not in probabilities:
            continue
        truth = age_group_index(faces) if attribute == AGE_GROUP else faces.labels[attribute]
        doubtful = np.isin(faces.source, [source for source, names in UNVERIFIED.items() if attribute in names])
        index = np.flatnonzero(faces.detected & (truth >= 0) & (truth < len(labels)) & ~doubtful)
        scores = probabilities[output][index].astype(np.float64)
        predicted = scores.argmax(axis=1)
        if attribute == AGE_GROUP:
            groups = [AGE_GROUPS.index(age_group(float(age))) for age in expected_age(probabilities[output][index])]
            predicted = np.array(groups, dtype=np.int64)
            scores = age_group_probabilities(probabilities[output][index]).astype(np.float64)
        scores = scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12)
        sizes = faces.face_px[index].astype(np.float64)
        found[attribute] = Case(labels, truth[index], scores, predicted, sizes, faces.source[index])
    return found


def statistics_of(found: Mapping[str, Case]) -> dict[str, AttributeStatistics]:
    """Returns the statistics of every attribute whose labels all have enough faces."""
    measured = {attribute: case.calibrate() for attribute, case in found.items()}
    return {attribute: statistics for attribute, statistics in measured.items() if statistics is not None}
