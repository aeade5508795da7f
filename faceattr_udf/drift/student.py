"""Quantiles of Student's t distribution, without SciPy, which nights do not need otherwise."""

import math
from functools import cache


def inside(t: float, dof: int) -> float:
    """Returns the probability that Student's t lies between -t and t.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, equations 26.7.3 and 26.7.4.

    Args:
        t: At least 0.
        dof: Degrees of freedom, a whole number of at least 1.

    >>> round(inside(2.2281, 10), 4), round(inside(12.7062, 1), 4)
    (0.95, 0.95)
    """
    angle = math.atan(t / math.sqrt(dof))
    cos = math.cos(angle)
    odd = dof % 2
    term, total = (cos if odd else 1.0), 0.0
    for power in range(odd + 1, dof, 2):
        total += term
        term *= cos * cos * power / (power + 1)
    if odd:
        return (angle + math.sin(angle) * total) * 2 / math.pi
    return math.sin(angle) * total


@cache
def two_sided(probability: float, dof: int) -> float:
    """Returns the t beyond which, on both sides together, Student's t lies with a probability.

    Args:
        probability: Between 0 and 1.
        dof: Degrees of freedom, at least 1.

    >>> round(two_sided(0.05, 10), 3), round(two_sided(0.0002, 55), 3)
    (2.228, 3.986)
    """
    low, high = 0.0, 1.0
    while 1.0 - inside(high, dof) > probability:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 1.0 - inside(middle, dof) > probability else (low, middle)
    return high
