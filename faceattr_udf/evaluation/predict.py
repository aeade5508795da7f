"""Running a predictor over labelled faces."""

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.predictor import AttributePredictor
from faceattr_udf.evaluation.faces import LabelledFaces


def predict_in_batches(
    predictor: AttributePredictor, faces: LabelledFaces, batch_size: int = 256
) -> dict[str, npt.NDArray[np.float32]]:
    """What the predictor gives for all faces: output -> float32 (n, d)."""
    if len(faces) == 0:
        return predictor.predict(faces.crops)
    batches = [
        predictor.predict(np.ascontiguousarray(faces.crops[start : start + batch_size]))
        for start in range(0, len(faces), batch_size)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
