"""Converts the probabilities of a model's classes to the classes of the product.

Networks with earlier classes stay usable: `labels.COARSE_LABELS` says which classes replaced an earlier one.
"""

import numpy as np

from faceattr_udf.arrays import Float32Array
from faceattr_udf.errors import WeightsError
from faceattr_udf.labels import ATTRIBUTES, CLASSES, COARSE_LABELS
from faceattr_udf.weights import WeightsRecord


class ClassConverter:
    """Converts the outputs of one model. Outputs whose classes are those of the product stay as they are."""

    def __init__(self, record: WeightsRecord) -> None:
        """Checks the classes of a model.

        Raises:
            WeightsError: The model predicts no or unknown attributes, has an unknown class, or lacks a class.
        """
        if not record.classes or tuple(record.classes) != tuple(a for a in ATTRIBUTES if a in record.classes):
            predicted = ", ".join(record.classes) or "nothing"
            msg = f"weights {record.name} predict {predicted}, expected some of {', '.join(ATTRIBUTES)}, in this order"
            raise WeightsError(msg)
        # Attribute -> (the model's classes, the product's classes): each row says where a probability goes.
        self._sizes = {name: len(labels) for name, labels in record.classes.items() if name in CLASSES}
        self._shares = {
            attribute: _shares(record, attribute)
            for attribute, classes in CLASSES.items()
            if attribute in record.classes and tuple(record.classes[attribute]) != classes
        }

    def __call__(self, outputs: dict[str, Float32Array]) -> dict[str, Float32Array]:
        """Converts probabilities.

        Args:
            outputs: Attribute -> float32 (n, the model's classes); other outputs stay as they are.

        Returns:
            Attribute -> float32 (n, classes) in the order of `labels.CLASSES`. The probability of a coarse label is
            shared equally among the classes that it stands for.

        Raises:
            ValueError: An output does not have the number of classes that the record says.
        """
        for name, values in outputs.items():
            if values.shape[1] != self._sizes.get(name, values.shape[1]):
                msg = f"{name} has {values.shape[1]} classes, expected {self._sizes[name]}"
                raise ValueError(msg)
        if not self._shares:
            return outputs
        return {
            name: values @ self._shares[name] if name in self._shares else values for name, values in outputs.items()
        }


def _shares(record: WeightsRecord, attribute: str) -> Float32Array:
    classes, coarse = CLASSES[attribute], COARSE_LABELS[attribute]
    table = np.zeros((len(record.classes[attribute]), len(classes)), dtype=np.float32)
    for row, label in enumerate(record.classes[attribute]):
        members = (label,) if label in classes else coarse.get(label)
        if members is None:
            known = ", ".join([*classes, *coarse])
            msg = (
                f"weights {record.name} have the class {label!r} of {attribute}, expected only {known}; "
                "train the model again with these classes"
            )
            raise WeightsError(msg)
        table[row, [classes.index(member) for member in members]] = 1.0 / len(members)
    missing = [name for name, total in zip(classes, table.sum(axis=0).tolist(), strict=True) if not total]
    if missing:
        msg = (
            f"weights {record.name} lack the classes {', '.join(missing)} of {attribute}; "
            "train the model again with all classes"
        )
        raise WeightsError(msg)
    return table
