"""Images as base64 text."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.errors import ImageError
from faceattr_udf.images.content_text import decode_text


@given(st.binary(max_size=200))
def test_base64_of_any_kind_is_decoded(content: bytes) -> None:
    plain = base64.b64encode(content).decode()
    urlsafe = base64.urlsafe_b64encode(content).decode().rstrip("=")
    lines = base64.encodebytes(content).decode().replace("\n", "\r\n")
    for text in (plain, urlsafe, lines, f"data:image/jpeg;base64,{plain}", f" DATA:;charset=x;base64,{lines}"):
        assert decode_text(text) == content


@pytest.mark.parametrize(
    "text", ["https://host/a.jpg?token=secret", "s3://bucket/a.jpg", " file:/a.jpg", "dbfs:/a.jpg"]
)
def test_url_is_unsupported_and_not_quoted(text: str) -> None:
    with pytest.raises(ImageError, match="the content is a URL, and workers fetch nothing; download") as caught:
        decode_text(text)
    assert caught.value.status == "unsupported"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["photo.jpg", "/data/a.jpg.", "abc!", "ä", "a", "data:image/png,abc", "abc\0"])
def test_other_text_is_corrupt(text: str) -> None:
    with pytest.raises(ImageError, match="the content is not base64") as caught:
        decode_text(text)
    assert caught.value.status == "corrupt"
