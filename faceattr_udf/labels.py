"""The label vocabulary: attributes and their classes, in the order of every network's probabilities."""

from typing import Final

ATTRIBUTES: Final = ("age", "gender", "ethnicity", "emotion")
"""All attributes, in the order of the output columns."""

GENDERS: Final = ("female", "male")
ETHNICITIES: Final = ("white", "black", "asian", "indian", "others")
EMOTIONS: Final = ("neutral", "happiness", "sadness", "anger", "fear", "surprise", "disgust")

CLASSES: Final[dict[str, tuple[str, ...]]] = {"gender": GENDERS, "ethnicity": ETHNICITIES, "emotion": EMOTIONS}
"""The categorical attributes and their classes."""

MAX_AGE: Final = 100
"""Ages are predicted as a distribution over the whole years 0 to `MAX_AGE`, which are `MAX_AGE + 1` classes."""

NUM_CLASSES: Final[dict[str, int]] = {"age": MAX_AGE + 1} | {name: len(labels) for name, labels in CLASSES.items()}
"""Attribute -> number of its classes; for age, the number of years. In the order of `ATTRIBUTES`."""

AGE_GROUPS: Final = ("0-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")


def age_group(age: float) -> str:
    """Returns the ten-year group of an age in years.

    >>> age_group(0.0), age_group(9.9), age_group(34.2), age_group(88.0)
    ('0-9', '0-9', '30-39', '70+')
    """
    return AGE_GROUPS[min(int(max(age, 0.0) // 10), len(AGE_GROUPS) - 1)]
