from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from face_sets import NO_AGE, labeled_faces

from faceattr_udf.errors import SchemaError, TableNotFoundError
from faceattr_udf.labels import EMOTIONS
from faceattr_udf.training.data.votes import read_votes


def _votes_file(folder: Path, image_ids: list[str], **counts: list[int]) -> Path:
    columns = {name: counts.get(name, [0] * len(image_ids)) for name in (*EMOTIONS, "contempt")}
    pq.write_table(pa.table({"image_id": pa.array(image_ids, pa.string()), **columns}), folder / "votes.parquet")
    return folder / "votes.parquet"


def test_no_faces_have_no_votes(tmp_path: Path) -> None:
    assert read_votes(_votes_file(tmp_path, ["x"]), labeled_faces([], []))["emotion"].shape == (0, 7)


def test_file_without_rows_gives_every_face_no_votes(tmp_path: Path) -> None:
    assert not read_votes(_votes_file(tmp_path, []), labeled_faces(["a"], [NO_AGE]))["emotion"].any()


def test_shares_of_votes_sum_to_one_without_contempt(tmp_path: Path) -> None:
    faces = labeled_faces(["a", "a", "a"], [NO_AGE] * 3)
    first, second, _ = faces.image_id.tolist()
    path = _votes_file(tmp_path, [second, first], neutral=[0, 6], fear=[0, 2], contempt=[10, 2])
    shares = read_votes(path, faces)["emotion"]
    assert shares[0].tolist() == [0.75, 0, 0, 0, 0.25, 0, 0]
    assert not shares[1:].any()
    assert shares.dtype == np.float32


def test_missing_file_or_column_is_named(tmp_path: Path) -> None:
    faces = labeled_faces(["a"], [NO_AGE])
    with pytest.raises(TableNotFoundError, match=r"train\.data\.votes"):
        read_votes(tmp_path / "none.parquet", faces)
    pq.write_table(pa.table({"image_id": ["x"], "neutral": [1]}), tmp_path / "bad.parquet")
    with pytest.raises(SchemaError, match="anger"):
        read_votes(tmp_path / "bad.parquet", faces)
