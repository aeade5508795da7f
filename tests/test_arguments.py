"""Arguments of `analyze` that people bring from other libraries."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from faceattr_udf.arguments import check_contents
from faceattr_udf.errors import ArgumentError, FaceattrError

PICTURE = Image.new("RGB", (4, 4))


@pytest.mark.parametrize(
    "contents",
    [
        [b"a", None],
        (b"a", None),
        iter([b"a", None]),
        (item for item in (b"a", None)),
        [bytearray(b"a"), None],
        [memoryview(b"a"), None],
        pd.Series([b"a", None], dtype=object),
        np.array([b"a", None], dtype=object),
        pa.array([b"a", None]).to_pylist(),
    ],
)
def test_any_iterable_of_bytes_is_accepted(contents: Any) -> None:
    assert check_contents(contents) == [b"a", None]


def test_empty_contents_are_accepted() -> None:
    assert check_contents([]) == []


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        (b"\xff\xd8", "not one bytes; pass [content]"),
        (memoryview(b"\xff\xd8"), "not one memoryview; pass [content]"),
        ("photo.jpg", "of the type str; read the file with pathlib.Path(path).read_bytes()"),
        (Path("photo.jpg"), "read the file with pathlib.Path(path).read_bytes()"),
        (np.zeros((4, 4, 3), np.uint8), "of the type numpy.ndarray; encode it: "),
        (PICTURE, "of the type PIL.Image.Image; encode it: "),
        (io.BytesIO(b"a"), "pass its getvalue()"),
        (None, "of the type NoneType; pass the bytes of an image file"),
        (5, "of the type int"),
        (["photo.jpg"], "image 0 is a value of the type str instead of bytes; read the file"),
        ([b"a", Path("photo.jpg")], "image 1 is a value of the type pathlib"),
        ([np.zeros((4, 4, 3), np.uint8)], "PIL.Image.fromarray(array).save(buffer, 'PNG')"),
        ([PICTURE], "image.save(buffer, 'PNG')"),
        ([io.BytesIO(b"a")], "pass its getvalue()"),
        ([io.StringIO("a")], "pass the bytes of its read()"),
        ([float("nan")], "pass None for an image without content"),
        ([np.float64("nan")], "pass None for an image without content"),
        ([[b"a"]], "image 0 is a value of the type list instead of bytes"),
        (pa.array([b"a"]), "pass its as_py(), or a whole column's to_pylist()"),
        ({"a.jpg": b"a"}, "image 0 is a value of the type str instead of bytes"),
    ],
)
def test_anything_else_is_an_error_with_the_fix(contents: Any, told: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        check_contents(contents)
    assert told in str(caught.value)
    assert "bytes" in str(caught.value)
    assert "photo.jpg" not in str(caught.value)
    assert isinstance(caught.value, FaceattrError)
    assert isinstance(caught.value, TypeError)
