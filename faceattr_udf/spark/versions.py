"""The versions of Spark, Delta and Java that work together."""

import importlib.metadata
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from faceattr_udf.errors import EngineError

TESTED: Final = {
    "3.5": ("3.5.9", "3.3.2"),
    "4.0": ("4.0.2", "4.4.0"),
    "4.1": ("4.1.2", "4.4.0"),
    "4.2": ("4.2.0", "4.4.0"),
}
"""Spark's minor version -> the releases of Spark and Delta that are tested together."""

_JAVA: Final = {"3": (17, 11, 8)}
_JAVA_OF_LATER: Final = (17, 21)


def minor(version: str) -> str:
    """Returns the first two numbers of a version.

    >>> minor("4.1.2-amzn-0")
    '4.1'
    """
    return ".".join(version.split(".")[:2])


def spark_version() -> str:
    """Returns the version of the installed PySpark, from PyPI or from a Spark distribution."""
    import pyspark  # noqa: PLC0415

    return str(pyspark.__version__)


def delta_coordinates(spark: str, installed: str | None) -> str:
    """Returns the Maven coordinates of Delta's jar.

    Args:
        spark: The version of Spark.
        installed: The version of the package delta-spark; None if it is not installed, and then the release of `TESTED`
            is taken. So it is where the package is for another major version than this Spark.

    Raises:
        EngineError: No release of Delta is known for this Spark.

    >>> delta_coordinates("4.2.0", "4.3.0"), delta_coordinates("4.1.2", None)
    ('io.delta:delta-spark_4.2_2.13:4.3.0', 'io.delta:delta-spark_4.1_2.13:4.4.0')
    >>> delta_coordinates("3.5.9", "3.3.0"), delta_coordinates("3.5.9", "4.4.0")
    ('io.delta:delta-spark_2.12:3.3.0', 'io.delta:delta-spark_2.12:3.3.2')
    """
    own = minor(spark)
    if installed is None or installed.partition(".")[0] != spark.partition(".")[0]:
        if own not in TESTED:
            known = ", ".join(TESTED)
            msg = (
                f"no release of Delta is known for Spark {spark}; install pyspark of a tested version ({known}), or "
                "name Delta's jar in engine.settings: spark.jars or spark.jars.packages"
            )
            raise EngineError(msg)
        installed = TESTED[own][1]
    if installed.startswith("3."):
        artifact = "delta-spark_2.12"
    else:
        # Since 4.1, Delta has a jar for each version of Spark.
        artifact = "delta-spark_2.13" if minor(installed) == "4.0" else f"delta-spark_{own}_2.13"
    return f"io.delta:{artifact}:{installed}"


def installed_delta() -> str | None:
    """Returns the version of the package delta-spark, or None if it is not installed; nothing needs it but its jar."""
    try:
        return importlib.metadata.version("delta_spark")
    except importlib.metadata.PackageNotFoundError:
        return None


def java_versions(spark: str) -> tuple[int, ...]:
    """Returns the versions of Java on which a version of Spark runs."""
    return _JAVA.get(spark.partition(".")[0], _JAVA_OF_LATER)


def find_java() -> Path | None:
    """Returns the Java that Spark would start: of JAVA_HOME, or else of the PATH."""
    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else Path(shutil.which("java") or "")
    return java if java.is_file() else None


def java_version(java: Path) -> int | None:
    """Returns the major version of a Java, or None if it does not say."""
    try:
        printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603 - the user's Java
    except OSError:
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', printed.stderr)
    return int(match[1]) if match else None


def java_problem(spark: str) -> str | None:
    """Returns what is wrong with this machine's Java for a version of Spark, or None."""
    wanted = " or ".join(map(str, sorted(java_versions(spark))))
    java = find_java()
    if java is None:
        home = os.environ.get("JAVA_HOME")
        where = f"JAVA_HOME={home} has no bin/java" if home else "java is not on the PATH"
        return f"{where}; install Java {wanted}, and set JAVA_HOME or put java on the PATH"
    found = java_version(java)
    if found not in java_versions(spark):
        return f"{java} is version {found or 'unknown'}; Spark {spark} needs Java {wanted}, so set JAVA_HOME to one"
    return None
