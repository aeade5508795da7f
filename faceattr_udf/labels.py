"""The label vocabulary: attributes and their classes, in the order of every network's probabilities."""

from typing import Final

VOCABULARY_VERSION: Final = 2
"""Changes whenever `CLASSES` changes; part of `config_id`, so that a run replaces rows with earlier classes. Version 1
had the ethnicities white, black, asian, indian and others."""

ATTRIBUTES: Final = ("age", "gender", "ethnicity", "emotion")
"""All attributes, in the order of the output columns."""

GENDERS: Final = ("female", "male")
ETHNICITIES: Final = ("white", "black", "asian", "indian", "middle_eastern", "latino_hispanic")
EMOTIONS: Final = ("neutral", "happiness", "sadness", "anger", "fear", "surprise", "disgust")

CLASSES: Final[dict[str, tuple[str, ...]]] = {"gender": GENDERS, "ethnicity": ETHNICITIES, "emotion": EMOTIONS}
"""The categorical attributes and their classes."""

OTHERS: Final = "others"

COARSE_LABELS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "gender": {},
    "ethnicity": {OTHERS: ("middle_eastern", "latino_hispanic")},
    "emotion": {},
}
"""Attribute -> labels that some data sets have in place of several classes -> those classes."""

LABELS: Final[dict[str, tuple[str, ...]]] = {name: (*CLASSES[name], *COARSE_LABELS[name]) for name in CLASSES}
"""Attribute -> all labels that a face may have: the classes, then the coarse labels."""

LABEL_CLASSES: Final[dict[str, tuple[tuple[int, ...], ...]]] = {
    name: tuple(
        tuple(CLASSES[name].index(member) for member in COARSE_LABELS[name].get(label, (label,)))
        for label in LABELS[name]
    )
    for name in CLASSES
}
"""Attribute -> for every label of `LABELS`, the indices of the classes that it stands for."""

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
