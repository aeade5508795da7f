"""Whom the protection of minors protects, and whom it costs: by the labeled ages of faces."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from faceattr_udf.attributes.decisions import probability_below
from faceattr_udf.datasets.labeled_faces import LabeledFaces
from faceattr_udf.evaluation.intervals import share_interval
from faceattr_udf.evaluation.metrics import Mask, Probabilities, mean

BANDS: Final[Mapping[str, tuple[int, int]]] = {
    "under 13": (0, 12),
    "13 to 15": (13, 15),
    "16 to 17": (16, 17),
    "18 to 24": (18, 24),
    "25 and over": (25, 150),
}
"""Band -> its first and last age, years."""

AGE: Final = 18
"""The age of majority that the card measures where `minors.age` is 0, years."""

THRESHOLDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Probabilities at which the shares are computed too."""


def minors(probabilities: Probabilities, faces: LabeledFaces, age: int, probability: float) -> dict[str, Any] | None:
    """Measures which faces count as minors'.

    Args:
        probabilities: A predictor's output for all faces.
        faces: The labels. A face whose labeled range of ages is not inside one band is left out.
        age: Years, as `minors.age`; 0 means `AGE`.
        probability: As `minors.probability`.

    Returns:
        age, probability, and "overall" and "by_source" (source -> ...): band -> the share of its faces that count as
        minors', with a 95 % interval, and `at`: threshold -> share. Bands without faces are left out. None without
        predicted or labeled ages.
    """
    if "age" not in probabilities or not faces.labeled("age").any():
        return None
    years = age or AGE
    below = np.array([probability_below(ages, years) for ages in probabilities["age"]])
    everyone = np.ones(len(faces), dtype=bool)
    return {
        "age": years,
        "probability": probability,
        "overall": _by_band(below, faces, everyone, probability),
        "by_source": {
            str(source): bands
            for source in np.unique(faces.source)
            if (bands := _by_band(below, faces, faces.source == source, probability))
        },
    }


def _by_band(below: Any, faces: LabeledFaces, members: Mask, probability: float) -> dict[str, Any]:  # noqa: ANN401 - (n,)
    low, high = faces.age_range.T
    found = {}
    for band, (first, last) in BANDS.items():
        inside = members & faces.labeled("age") & (low >= first) & (high < last + 1)
        if inside.any():
            shares = {f"{at:g}": mean(below[inside] > at) for at in THRESHOLDS}
            found[band] = {**share_interval(below[inside] > probability), "at": shares}
    return found
