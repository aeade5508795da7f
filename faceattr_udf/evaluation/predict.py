"""Runs a predictor over labeled faces."""

from collections.abc import Callable

import numpy as np

from faceattr_udf.arrays import Float32Array, UInt8Array
from faceattr_udf.attributes.predictor import AttributePredictor
from faceattr_udf.datasets.labeled_faces import LabeledFaces


def predict_in_batches(
    predictor: AttributePredictor,
    faces: LabeledFaces,
    batch_size: int = 256,
    transform: Callable[[UInt8Array], UInt8Array] = np.ascontiguousarray,
) -> dict[str, Float32Array]:
    """Predicts all faces.

    Args:
        predictor: The model.
        faces: The faces.
        batch_size: Faces per call of the model.
        transform: Applied to the crops of each batch first, e.g. a center crop.

    Returns:
        Output name -> float32 (n, classes).
    """
    if len(faces) == 0:
        return predictor.predict(faces.crops)
    batches = [
        predictor.predict(transform(faces.crops[start : start + batch_size]))
        for start in range(0, len(faces), batch_size)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
