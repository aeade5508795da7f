"""Checks the places of tables in object stores."""

from urllib.parse import quote

from faceattr_udf.errors import EngineError
from faceattr_udf.spark.locations import local_path


def check_store_place(engine: str, location: str) -> None:
    """Checks that the engine writes to a URI where the URI says.

    Args:
        engine: The engine's name.
        location: A path, a URI or a catalog name; only URIs of stores are checked.

    Raises:
        EngineError: The engine is the embedded one, which encodes some characters of a URI once for a table's log and
            twice for its data, and takes others for patterns.
    """
    scheme, separator, rest = location.partition("://")
    if engine != "sail" or not separator or local_path(location) is not None or quote(rest) == rest:
        return
    msg = (
        f"engine sail cannot write to {scheme}://{rest}, because its path has a space or another character that URLs "
        "encode; choose a name of letters, digits, '-', '_' and '.', or set engine.name=spark"
    )
    raise EngineError(msg)
