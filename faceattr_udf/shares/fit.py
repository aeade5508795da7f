"""Checks whether the calibration fits the photographs: with P(score | label) as calibrated, cells fill as expected.

K mean scores determine K shares exactly and leave no residual to look at. Cells of the most likely label times three
parts of its confidence do.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from faceattr_udf.arrays import Float64Array, Int64Array
from faceattr_udf.shares.statistics import AttributeStatistics

TOLERANCE: Final = 0.02
"""Total variation distance that is harmless whatever the number of faces."""

SIGMAS: Final = 3.0
"""Standard deviations above the expected distance from which a fit is poor."""


@dataclass(frozen=True)
class Fit:
    """How well the calibration fits.

    Attributes:
        distance: Total variation distance between observed and expected cells, 0 to 1.
        limit: What chance alone explains: `TOLERANCE`, the expected distance of a fitting sample, and three of its
            standard deviations.
    """

    distance: float
    limit: float

    @property
    def is_poor(self) -> bool:
        """Whether the photographs differ from those of the calibration in more than their mix."""
        return self.distance > self.limit


def check_fit(
    statistics: AttributeStatistics, share: Float64Array, counts: Float64Array | Int64Array, faces: Int64Array
) -> Fit | None:
    """Compares the cells of the faces at hand with those that the corrected share explains.

    Args:
        statistics: Of the attribute.
        share: (K,), the corrected share, projected.
        counts: (3 K,), faces in each cell (`calibrate.cells_of`).
        faces: (K,), calibration faces of each label.

    Returns:
        The fit; None without faces.
    """
    total = float(np.sum(counts))
    if total == 0.0:
        return None
    expected = share @ statistics.cells
    distance = 0.5 * float(np.abs(counts / total - expected).sum())
    within = statistics.cells * (1.0 - statistics.cells)
    variance = share @ within / total + (share**2 / faces) @ within
    # The mean of |z| is sqrt(2/pi), its variance 1 - 2/pi.
    mean = 0.5 * np.sqrt(2.0 / np.pi) * np.sqrt(variance).sum()
    sd = 0.5 * np.sqrt((1.0 - 2.0 / np.pi) * variance.sum())
    return Fit(distance, TOLERANCE + float(mean) + SIGMAS * float(sd))
