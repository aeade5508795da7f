"""A session of the caller's own: its engine, and the settings that a run needs.

Notebooks and managed platforms have a session already, and some of them refuse most settings. What is refused is
skipped and said once: the results stay the same, only memory and speed may differ.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from pyspark.sql import SparkSession

from faceattr_udf.config import Config
from faceattr_udf.spark.session import CONNECT_MODE, is_started_here, query_settings
from faceattr_udf.spark.session_settings import apply_settings, restore_settings

EngineName = Literal["sail", "spark", "connect"]

_OWN: Final = "sc://own-session"
"""Stands for the server of a caller's session, because a configuration of Spark Connect names one."""


def engine_of(spark: SparkSession) -> EngineName:
    """Returns the engine of any session, whoever started it."""
    if not type(spark).__module__.startswith("pyspark.sql.connect"):
        return "spark"
    # Apache Spark and its descendants name their commit after the version, the embedded engine does not.
    row = spark.sql("SELECT version() AS version").first()
    return "connect" if row is None or " " in row["version"].strip() else "sail"


@contextmanager
def adopted(spark: SparkSession, config: Config) -> Iterator[Config]:
    """Gives a session the settings of a run, and gives it back its own afterwards.

    Sessions that `start` has returned keep theirs: they have these settings already.

    Args:
        spark: Any session.
        config: The configuration; its `engine.name` and `engine.remote` need not fit the session.

    Yields:
        The configuration with the session's engine.
    """
    engine = engine_of(spark)
    if engine != config.engine.name:
        update = {"name": engine, "remote": config.engine.remote or (_OWN if engine == "connect" else None)}
        config = config.model_copy(update={"engine": config.engine.model_copy(update=update)})
    mode = os.environ.get(CONNECT_MODE)
    if engine == "spark":
        os.environ.pop(CONNECT_MODE, None)
    else:
        os.environ[CONNECT_MODE] = "1"
    wanted = {} if is_started_here(spark) or engine == "sail" else query_settings(config)
    try:
        before = apply_settings(spark, wanted)
        try:
            yield config
        finally:
            restore_settings(spark, before)
    finally:
        if mode is None:
            os.environ.pop(CONNECT_MODE, None)
        else:
            os.environ[CONNECT_MODE] = mode
