"""When an action of maintenance must be the only writer."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from faceattr_udf.errors import EngineError
from faceattr_udf.spark.lease import Lease

_S3: Final = ("s3", "s3a", "s3n")


def commits_may_be_lost(spark: SparkSession, locations: Iterable[str]) -> bool:
    """Checks whether two drivers that commit to one table at the same time may lose a commit.

    That is so on S3, where Delta's default log store only keeps the commits of one driver apart.

    Args:
        spark: A session; a log store for the scheme may be set.
        locations: The tables and the output folder.
    """
    schemes = {location.partition(":")[0].lower() for location in locations} & set(_S3)
    return any(not _has_log_store(spark, scheme) for scheme in schemes)


def _has_log_store(spark: SparkSession, scheme: str) -> bool:
    try:
        return any(
            spark.conf.get(key, None) for key in (f"spark.delta.logStore.{scheme}.impl", "spark.delta.logStore.class")
        )
    except PySparkException:  # some platforms do not tell
        return False


def rewrites_may_collide(engine: str) -> bool:
    """Checks whether two commits that rewrite the same file may both succeed, which doubles its rows.

    That is so on the embedded engine: its MERGE and the deltalake library do not see each other's commits as conflicts.

    Args:
        engine: The engine's name in the configuration.
    """
    return engine == "sail"


@contextmanager
def exclusive(folder: str, action: str, seconds: float, name: str) -> Iterator[None]:
    """Holds the lease with some name of a folder.

    Raises:
        BusyError: A run or another action holds it.
        EngineError: No lease can be taken there.
    """
    with Lease(folder, f"jobs.maintain {action}", seconds, name) as lease:
        if not lease.held:
            msg = (
                f"{action} must be the only writer in {folder}, and this process cannot reach it to take the lease; "
                "give it access to that folder"
            )
            raise EngineError(msg)
        yield
