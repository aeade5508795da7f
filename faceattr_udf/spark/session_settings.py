"""Settings of a session that has already started."""

from collections.abc import Mapping

import structlog
from pyspark.sql import SparkSession

from faceattr_udf.sanitize import first_line, redacted

log = structlog.get_logger(__name__)


def apply_settings(spark: SparkSession, wanted: Mapping[str, str]) -> dict[str, str | None]:
    """Sets what the session accepts; logs once what it refuses.

    Args:
        spark: Any session; managed platforms refuse most settings.
        wanted: Setting -> value.

    Returns:
        The earlier values of the settings that have changed; None where there was none.
    """
    before: dict[str, str | None] = {}
    refused: dict[str, str] = {}
    for key, value in wanted.items():
        try:
            earlier = spark.conf.get(key, None)
            if earlier != value:
                spark.conf.set(key, value)
                before[key] = earlier
        except Exception as error:  # every platform refuses in its own way
            refused[key] = redacted(first_line(error))
    if refused:
        log.warning(
            "settings_refused",
            settings=sorted(refused),
            reason=next(iter(refused.values())),
            advice="set them where the session starts if workers run out of memory",
        )
    return before


def restore_settings(spark: SparkSession, before: Mapping[str, str | None]) -> None:
    """Gives settings their earlier values again, which `apply_settings` has returned."""
    for key, value in before.items():
        try:
            if value is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, value)
        except Exception as error:  # the session may have been stopped; the run's own error matters more
            log.info("setting_not_restored", setting=key, reason=redacted(first_line(error)))
