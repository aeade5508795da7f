"""Checks of what callers of the Python API pass in; the errors say how to turn it into what is expected."""

import io
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from PIL import Image

from faceattr_udf.errors import ArgumentError

_FIXES: Final = {
    "path": "read the file with pathlib.Path(path).read_bytes()",
    "pixels": "encode it: buffer = io.BytesIO(); PIL.Image.fromarray(array).save(buffer, 'PNG'); buffer.getvalue()",
    "picture": "encode it: buffer = io.BytesIO(); image.save(buffer, 'PNG'); buffer.getvalue()",
    "buffer": "pass its getvalue()",
    "file": "pass the bytes of its read(), opened in binary mode",
    "number": "pass None for an image without content",
    "scalar": "pass its as_py(), or a whole column's to_pylist()",
}
"""Kind of argument -> how to make bytes of it."""


def check_contents(contents: object) -> list[bytes | None]:
    """Returns encoded images as a list of bytes.

    Args:
        contents: An iterable of bytes, bytearray, memoryview or None.

    Raises:
        ArgumentError: It is one item instead of several, or an item is something else.
    """
    if isinstance(contents, bytes | bytearray | memoryview):
        msg = f"analyze takes a list of encoded images, not one {type(contents).__name__}; pass [content] (bytes)"
        raise ArgumentError(msg)
    if _kind(contents) is not None or not isinstance(contents, Iterable):
        msg = f"analyze takes a list of encoded images (bytes), not {_described(contents)}{_fix(contents)}"
        raise ArgumentError(msg)
    return [_bytes(item, index) for index, item in enumerate(contents)]


def _bytes(item: object, index: int) -> bytes | None:
    if item is None or isinstance(item, bytes):
        return item
    if isinstance(item, bytearray | memoryview):
        return bytes(item)
    msg = f"image {index} is {_described(item)} instead of bytes{_fix(item)}"
    raise ArgumentError(msg)


def _described(item: object) -> str:
    kind = type(item)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"a value of the type {name}"


def _fix(item: object) -> str:
    kind = _kind(item)
    return f"; {_FIXES[kind]}" if kind else "; pass the bytes of an image file"


def _kind(item: object) -> str | None:
    """Returns the key of `_FIXES` for what people pass instead of bytes; None for anything else."""
    return next((kind for kind, matches in _MATCHES.items() if matches(item)), None)


_MATCHES: Final[Mapping[str, Callable[[object], bool]]] = MappingProxyType(
    {
        "path": lambda item: isinstance(item, str) or hasattr(item, "__fspath__"),
        "picture": lambda item: isinstance(item, Image.Image),
        "buffer": lambda item: isinstance(item, io.BytesIO),
        "file": lambda item: hasattr(item, "read"),
        "number": lambda item: isinstance(item, int | float | np.number),
        "pixels": lambda item: isinstance(item, np.ndarray) and item.dtype != object,
        "scalar": lambda item: hasattr(item, "as_py"),
    }
)
