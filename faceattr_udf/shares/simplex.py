"""Projects a vector onto the simplex: the nearest shares that are not negative and sum to 1."""

import numpy as np

from faceattr_udf.arrays import Float64Array


def project(values: Float64Array) -> Float64Array:
    """Returns the point of the simplex nearest to (K,) in Euclidean distance.

    Duchi et al. 2008, "Efficient Projections onto the l1-Ball for Learning in High Dimensions", figure 1.

    >>> project(np.array([0.7, 0.5, -0.2])).round(6).tolist()
    [0.6, 0.4, 0.0]
    """
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - 1.0) / np.arange(1, len(values) + 1)
    return np.asarray(np.maximum(values - excess[np.flatnonzero(ordered > excess)[-1]], 0.0))
