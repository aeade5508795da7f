"""Decodes images that a table holds as text: base64, alone or in a data URL."""

import base64
import re
from typing import Final

from faceattr_udf.errors import ImageError
from faceattr_udf.results import ImageStatus

_DATA_URL: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]{1,15}:/", re.IGNORECASE)
_SPACE: Final = re.compile(r"\s+")


def decode_text(text: str) -> bytes:
    """Returns the bytes of base64 text, of either alphabet, with or without padding, line breaks and a data URL.

    Raises:
        ImageError: The text is a URL, which no worker fetches (status unsupported), or no base64 (status corrupt). The
            message quotes nothing of the text.

    >>> decode_text("data:image/png;base64,iVBORw0KGgo=")[1:4]
    b'PNG'
    """
    text = text.lstrip()
    start = _DATA_URL.match(text)
    if start is None and _URL.match(text):
        msg = "the content is a URL, and workers fetch nothing; download the images into a binary column first"
        raise ImageError(ImageStatus.UNSUPPORTED, msg)
    plain = _SPACE.sub("", text[start.end() if start else 0 :]).rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise ImageError(ImageStatus.CORRUPT, "the content is not base64") from None
