"""People's votes for the emotion of a face, as in FER+ (Barsoum et al. 2016, arXiv 1608.01041)."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from faceattr_udf.arrays import Float32Array
from faceattr_udf.datasets.labeled_faces import LabeledFaces
from faceattr_udf.errors import SchemaError, TableNotFoundError
from faceattr_udf.labels import EMOTIONS


def read_votes(path: Path, faces: LabeledFaces) -> dict[str, Float32Array]:
    """Reads the shares of people's votes for the emotions of faces.

    Votes for anything but `labels.EMOTIONS`, such as contempt, are left out.

    Args:
        path: Parquet file with the column image_id and one column of counts per emotion.
        faces: The faces, in the order of the result.

    Returns:
        "emotion" -> float32 (n, emotions): rows sum to 1, or are 0 where a face has no votes.

    Raises:
        TableNotFoundError: The file does not exist.
        SchemaError: A column is missing.
    """
    if not path.exists():
        msg = f"train.data.votes = {path} not found; name a Parquet file with image_id and a column per emotion"
        raise TableNotFoundError(msg)
    missing = sorted({"image_id", *EMOTIONS} - set(pq.read_schema(path).names))
    if missing:
        msg = f"votes {path} lack the columns {', '.join(missing)}; image_id and a column per emotion are required"
        raise SchemaError(msg)
    table = pq.read_table(path, columns=["image_id", *EMOTIONS])
    counts = np.stack([table[name].to_numpy() for name in EMOTIONS], axis=1).astype(np.float32)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    rows = dict(zip(table["image_id"].to_pylist(), shares, strict=True))
    no_votes = np.zeros(len(EMOTIONS), dtype=np.float32)
    found = [rows.get(image_id, no_votes) for image_id in faces.image_id.tolist()]
    return {"emotion": np.array(found, dtype=np.float32).reshape(-1, len(EMOTIONS))}
