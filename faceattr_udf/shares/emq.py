"""Expectation maximization for shares: a second opinion that assumes calibrated probabilities."""

import numpy as np
import numpy.typing as npt

from faceattr_udf.arrays import Float64Array


def emq(
    probabilities: npt.NDArray[np.floating], prior: Float64Array, tolerance: float = 1e-4, rounds: int = 1000
) -> Float64Array:
    """Estimates shares by expectation maximization.

    Saerens, Latinne, Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities", equation
    2.3. It is exact where the probabilities are calibrated under `prior`, and has no protection where they are not.

    Args:
        probabilities: (n, K), n > 0; rows sum to 1.
        prior: (K,), the shares under which the probabilities are calibrated.
        tolerance: Ends when the shares move by less, in mean absolute difference.
        rounds: The most rounds.

    Returns:
        The shares, (K,), summing to 1.

    >>> emq(np.eye(2)[[0, 0, 1, 0]], np.array([0.5, 0.5])).tolist()
    [0.75, 0.25]
    """
    start = np.maximum(np.asarray(prior, dtype=np.float64), 1e-12)
    share = start.copy()
    for _ in range(rounds):
        weighted = probabilities * (share / start)
        moved = np.asarray((weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0), dtype=np.float64)
        done = np.abs(moved - share).mean() < tolerance
        share = moved
        if done:
            break
    return share
