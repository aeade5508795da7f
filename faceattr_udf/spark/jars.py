"""A cache of Spark's jars, mainly Delta's: each is resolved once per machine.

    python -m faceattr_udf.spark.jars

prints Delta's jars in the form of `spark-submit --jars` and fetches them if they are not cached.

Spark's own resolver (Ivy) fails when several processes fill one cache, because each may read a file that another is
still writing. So each resolution here runs under a lock in a temporary folder, and its jars are published by one
rename. If a process is killed, the lock is released and no partial jar is left.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from faceattr_udf.errors import EngineError, FaceattrError
from faceattr_udf.sanitize import redacted
from faceattr_udf.spark.versions import delta_coordinates, installed_delta, java_versions, spark_version
from faceattr_udf.user_cache import user_cache

_PACKAGES: Final = "spark.jars.packages"
# Settings that decide which jars are resolved; they are the cache key.
_KEY_SETTINGS: Final = (_PACKAGES, "spark.jars.excludes", "spark.jars.repositories")
# Settings that only decide how jars are fetched; the JVM's options may name a proxy.
_FETCH_SETTINGS: Final = ("spark.jars.ivy", "spark.jars.ivySettings", "spark.driver.extraJavaOptions")
# Settings that put jars on the driver's class path.
_CLASS_PATHS: Final = ("spark.jars", "spark.driver.extraClassPath")
_TIMEOUT_SECONDS: Final = 900
_PARTIAL: Final = ".partial-"

# Starts a JVM as a session does, which resolves the packages, and prints the resulting jars.
_RESOLVE: Final = """
import json, sys
from pyspark import SparkConf, SparkContext
SparkContext._ensure_initialized(conf=SparkConf(loadDefaults=False).setAll(list(json.load(sys.stdin).items())))
print(SparkConf().get("spark.jars"))
"""


def with_jars(settings: Mapping[str, str]) -> dict[str, str]:
    """Replaces packages in Spark's settings by local jars, so that the session has nothing to resolve when it starts.

    Args:
        settings: Settings of a session that starts its own JVM. Delta is added to `spark.jars.packages` unless
            `spark.jars`, these packages or the installed Spark already include it.

    Returns:
        The same settings with `spark.jars` instead of `spark.jars.packages`.

    Raises:
        EngineError: A package is not in the cache and cannot be fetched, or there is no Java.
    """
    packages = _packages(settings)
    own = {key: value for key, value in settings.items() if key != _PACKAGES}
    jars = [settings["spark.jars"]] if settings.get("spark.jars") else []
    if packages:
        resolver = {key: settings[key] for key in (*_KEY_SETTINGS, *_FETCH_SETTINGS) if key in settings}
        jars += [str(path) for path in resolve({**resolver, _PACKAGES: packages})]
    return {**own, "spark.jars": ",".join(jars)} if jars else own


def resolve(resolver: Mapping[str, str]) -> list[Path]:
    """Returns the jars of packages from the cache, which Spark's own resolver fills on first use.

    Args:
        resolver: `spark.jars.packages` (Maven coordinates, separated by commas) and the resolver's other settings.

    Returns:
        Files in the cache folder of these packages, exclusions and repositories.

    Raises:
        EngineError: The packages cannot be fetched.
    """
    from filelock import FileLock  # noqa: PLC0415 - part of the extra spark

    cache, published = _cache_folder(), _published_folder(resolver)
    try:
        if not published.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / "lock"):  # the system releases it when this process ends
                if not published.is_dir():  # another process may have resolved it meanwhile
                    _publish(resolver, published)
    except OSError as error:
        msg = f"the jar cache {cache} cannot be used ({error.strerror}); set XDG_CACHE_HOME to a writable folder"
        raise EngineError(msg) from error
    return sorted(published.glob("*.jar"))


def are_cached(settings: Mapping[str, str]) -> bool:
    """Returns whether a session with these settings starts without fetching a jar.

    Args:
        settings: As for `with_jars`.
    """
    packages = _packages(settings)
    return not packages or _published_folder({**settings, _PACKAGES: packages}).is_dir()


def _published_folder(resolver: Mapping[str, str]) -> Path:
    """Returns the cache folder of these packages, exclusions and repositories."""
    key_settings = {name: resolver[name] for name in _KEY_SETTINGS if name in resolver}
    key = hashlib.sha256(json.dumps(key_settings, sort_keys=True).encode()).hexdigest()[:16]
    return _cache_folder() / key


def delta_package() -> str:
    """Returns the Maven coordinates of Delta's jar for the installed pyspark; delta-spark need not be installed.

    Raises:
        EngineError: No release of Delta is known for this Spark.
    """
    return delta_coordinates(spark_version(), installed_delta())


def _packages(settings: Mapping[str, str]) -> str:
    """Returns the packages to resolve, including Delta unless the settings or Spark already include it."""
    given = settings.get(_PACKAGES, "")
    named = [given, *(settings.get(key, "") for key in _CLASS_PATHS)]
    if any(_names_delta(text) for text in named) or _has_bundled_delta():
        return given
    return ",".join([delta_package(), *filter(None, [given])])


def _names_delta(text: str) -> bool:
    """Checks whether a list of jars or packages includes Delta; its jar was called delta-core before 3.0."""
    return "delta-spark" in text or "delta-core" in text


def _has_bundled_delta() -> bool:
    """Checks whether the installed Spark includes Delta, among its jars or in its defaults, as images often do."""
    import pyspark  # noqa: PLC0415

    home = Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)
    if any(_names_delta(jar.name) for jar in (home / "jars").glob("*.jar")):
        return True
    defaults = Path(os.environ.get("SPARK_CONF_DIR") or home / "conf") / "spark-defaults.conf"
    try:
        lines = defaults.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(_names_delta(line) for line in lines if not line.lstrip().startswith("#"))


def _cache_folder() -> Path:
    return user_cache("jars")


def _publish(resolver: Mapping[str, str], published: Path) -> None:
    """Resolves into a temporary folder and renames it to `published`; the caller holds the lock."""
    for left in published.parent.glob(f"{_PARTIAL}*"):  # left by killed processes
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=published.parent, ignore_cleanup_errors=True) as folder:
        jars = Path(folder) / "published"
        jars.mkdir()
        for jar in _fetch({"spark.jars.ivy": folder, **resolver}):
            shutil.copy(jar, jars)
        jars.rename(published)


def _fetch(resolver: Mapping[str, str]) -> list[str]:
    command = [sys.executable, "-c", _RESOLVE]
    try:
        finished = subprocess.run(  # noqa: S603 - this interpreter and the code above
            command, input=json.dumps(resolver), capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        msg = f"{resolver[_PACKAGES]} was not fetched within {_TIMEOUT_SECONDS} s; check the network and run it again"
        raise EngineError(msg) from error
    if finished.returncode != 0:
        raise EngineError(_failure_message(resolver[_PACKAGES], finished.stderr))
    return [unquote(urlsplit(jar).path) for jar in finished.stdout.splitlines()[-1].split(",")]


def _failure_message(packages: str, stderr: str) -> str:
    r"""Returns one sentence with the cause of a failed resolution: the resolver's own line where there is one.

    >>> _failure_message("io.delta:x:1", "JAVA_HOME is not set\nTraceback ...").partition(";")[0]
    'engine spark cannot start (JAVA_HOME is not set)'
    """
    lines = [line.strip(": \t") for line in stderr.splitlines()]
    java = [line for line in lines if "JAVA_HOME" in line or "UnsupportedClassVersionError" in line or "/java:" in line]
    if java:
        wanted = " or ".join(map(str, sorted(java_versions(spark_version()))))
        return f"engine spark cannot start ({redacted(java[0])}); it needs Java {wanted}"
    # The most telling first: Python's own line only says that the JVM has ended.
    causes = ("download failed", "module not found", "not found", "Server access error", "Exception", "Error")
    found = [line for cause in causes for line in lines if cause in line]
    cause = redacted(found[0]) if found else "the resolver gave no reason"
    return (
        f"{packages} cannot be fetched ({cause}); the first start needs the network, or "
        "engine.settings: spark.jars with the jars' paths, or spark.jars.repositories with a mirror"
    )


def main() -> int:
    """Prints Delta's jars, separated by commas; returns 2 if they cannot be fetched."""
    try:
        print(",".join(str(path) for path in resolve({_PACKAGES: delta_package()})))  # noqa: T201 - a command
    except FaceattrError as error:
        print(f"jars: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
