"""The errors a user can act on; everything else is a bug."""

from faceattr_udf.sanitize import printable


class FaceattrError(Exception):
    """Root of all errors raised on purpose: one sentence that names the thing and the fix.

    It may quote names that others chose (columns, files, ids), so as text it is one line that steers no terminal.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(FaceattrError):
    """A configuration key is unknown, of the wrong type, or out of range."""


class WeightsError(FaceattrError):
    """A weights file or its record is missing, altered, or does not fit the network."""


class SchemaError(FaceattrError):
    """A table lacks a column, has one of the wrong type, or was written by another schema version."""


class TableNotFoundError(FaceattrError):
    """A table that should be read does not exist."""


class EngineError(FaceattrError):
    """The configured engine is not installed, not reachable, or lacks the operation."""


class BusyError(FaceattrError):
    """Another writer is at work in the same place."""


class ImageError(FaceattrError):
    """Bytes that do not become an image.

    Attributes:
        status: The `ImageStatus` value that the image's row gets.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
