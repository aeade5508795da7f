"""The session's default file system, on which Spark looks for a plain path."""

from typing import Any

from pyspark.sql import SparkSession

from faceattr_udf.spark.catalog_names import split_name
from faceattr_udf.spark.locations import has_scheme, local_path


def qualified(spark: SparkSession, location: str) -> str:
    """Returns a location as the session's engine understands it.

    On a cluster a plain path lies on the default file system, often HDFS, and not on the driver's disk.

    Args:
        spark: A session.
        location: A path, a URI, or a catalog name.

    Returns:
        A URI if the default file system is another than this machine's; a plain path for `file:` URIs otherwise.
    """
    hadoop = _hadoop(spark)
    if hadoop is None or _is_local(hadoop.configuration.get("fs.defaultFS")):
        path = local_path(location) if has_scheme(location) else None
        return location if path is None else str(path)
    if not location.strip() or has_scheme(location) or ("/" not in location and len(split_name(location) or ()) > 1):
        return location
    system = hadoop.Path("/").getFileSystem(hadoop.configuration)
    if location.startswith("~/"):
        location = f"{system.getHomeDirectory().toString()}/{location[2:]}"
    path = hadoop.Path(location)
    return str(path.makeQualified(system.getUri(), system.getWorkingDirectory()).toString())


def _is_local(default: str | None) -> bool:
    return default is None or default.startswith("file:")


class _Hadoop:
    """Hadoop's configuration and path class in a session's JVM."""

    def __init__(self, session: Any) -> None:  # noqa: ANN401 - py4j's objects have no types
        self.configuration = session._jsc.hadoopConfiguration()
        self.Path = session._jvm.org.apache.hadoop.fs.Path


def _hadoop(spark: SparkSession) -> _Hadoop | None:
    """Returns the session's Hadoop, or None on Spark Connect, which gives no access to it."""
    return _Hadoop(spark) if getattr(spark, "_jsc", None) is not None else None
