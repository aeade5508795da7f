"""The errors that a user can act on; any other exception is a bug."""

from faceattr_udf.sanitize import printable


class FaceattrError(Exception):
    """Base class of all errors raised on purpose; the message is one sentence that names the problem and the fix.

    Messages may quote untrusted names (columns, files, ids), so `str` escapes line breaks and control characters.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(FaceattrError):
    """A configuration key is unknown, or its value has the wrong type or is out of range."""


class PolicyError(FaceattrError):
    """A rule of the policy refuses the configuration, or requires a key that it lacks."""


class WeightsError(FaceattrError):
    """A weights file or its record is missing, altered, or does not fit the network."""


class SchemaError(FaceattrError):
    """A table lacks a column, has a column of the wrong type, or was written with another schema version."""


class TableNotFoundError(FaceattrError):
    """The table to read does not exist."""


class EngineError(FaceattrError):
    """The configured engine or device is not installed, not reachable, or does not support the operation."""


class BusyError(FaceattrError):
    """Another job is writing to the same output or images table."""


class ErasureError(FaceattrError):
    """Files still hold what was to be erased, or could not be searched."""


class ArgumentError(FaceattrError, TypeError):
    """An argument of the Python API has another type than the one that is documented."""


class ImageError(FaceattrError):
    """The content cannot be decoded to an image.

    Attributes:
        status: The `ImageStatus` value of the image's row.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
