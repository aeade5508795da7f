"""Validates the XML of an OpenVINO graph before the native library parses it."""

import re
from typing import Final
from xml.parsers import expat

from faceattr_udf.errors import WeightsError

_STANDARD_OPSET: Final = re.compile(r"opset\d+|0")
"""Versions of layers that OpenVINO implements itself; 0 are its internal ones."""


def check_graph_xml(xml: bytes, constants_size: int, name: str) -> None:
    """Checks that a graph has only what the exporter writes.

    A checksum proves that a graph belongs to its record, not that it is harmless: a record in a user's own folder may
    come from somebody else, and OpenVINO tries bytes that are not its XML as other formats, which open further files.

    Args:
        xml: The graph.
        constants_size: Size of `NAME.bin`, bytes.
        name: File stem.

    Raises:
        WeightsError: The XML is malformed or not a graph, declares a document type (entities), has a layer of an
            extension, or has a constant outside `NAME.bin`.
    """
    reason = "it is not well-formed XML"
    root: list[str] = []

    def refuse_doctype(*_: object) -> None:
        msg = "it declares a document type"
        raise ValueError(msg)

    def check_element(element: str, attributes: dict[str, str]) -> None:
        if not root:
            root.append(element)
        if root[0] != "net":
            msg = "its root element is not <net>"
            raise ValueError(msg)
        if element == "layer" and not _STANDARD_OPSET.fullmatch(attributes["version"]):
            msg = f"layer {attributes['id']} belongs to an extension"
            raise ValueError(msg)
        if element == "data" and "offset" in attributes:
            offset, size = int(attributes["offset"]), int(attributes["size"])
            if min(offset, size) < 0 or offset + size > constants_size:
                msg = f"{size} bytes at offset {offset} are outside the {constants_size} bytes of {name}.bin"
                raise ValueError(msg)

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.StartDoctypeDeclHandler = check_element, refuse_doctype
    try:
        parser.Parse(xml, True)
    except (expat.ExpatError, KeyError):
        pass
    except ValueError as error:
        reason = str(error)
    else:
        return
    msg = f"{name}.xml is not a valid exported graph ({reason}); run python -m faceattr_udf.training.export {name}"
    raise WeightsError(msg)
