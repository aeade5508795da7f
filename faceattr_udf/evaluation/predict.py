"""Running a predictor over labelled faces."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.predictor import AttributePredictor
from faceattr_udf.datasets.labelled_faces import LabelledFaces, UInt8Array


def predict_in_batches(
    predictor: AttributePredictor,
    faces: LabelledFaces,
    batch_size: int = 256,
    view: Callable[[UInt8Array], UInt8Array] = np.ascontiguousarray,
) -> dict[str, npt.NDArray[np.float32]]:
    """What the predictor gives for all faces, shown to it as `view` makes their crops: output -> float32 (n, d)."""
    if len(faces) == 0:
        return predictor.predict(faces.crops)
    batches = [
        predictor.predict(view(faces.crops[start : start + batch_size])) for start in range(0, len(faces), batch_size)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
