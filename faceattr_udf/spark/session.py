"""Spark sessions: one entry point for the embedded engine, Apache Spark and Spark Connect servers."""

import os
import re
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pyspark
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from faceattr_udf.config import Config, server_address
from faceattr_udf.errors import EngineError
from faceattr_udf.sanitize import SPARK_REDACTION, first_line, redacted
from faceattr_udf.spark.jars import with_jars
from faceattr_udf.spark.jvm import jvm_settings, machine_memory
from faceattr_udf.spark.schemas import ROW_GROUP_BYTES
from faceattr_udf.spark.session_settings import apply_settings
from faceattr_udf.spark.versions import java_problem, java_versions, spark_version

_DELTA: Final = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
_UTC: Final = {"spark.sql.session.timeZone": "UTC"}
_READING: Final = {
    # pandas writes timestamps in nanoseconds, which Spark reads only as integers.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # Names stay text: Spark would replace ${...} in every statement.
    "spark.sql.variable.substitute": "false",
}
_SHUFFLE: Final = "spark.sql.shuffle.partitions"
_SMALL_TABLES: Final = {
    # Shuffled tables hold keys and short rows, never images. With the defaults of 200 shuffle partitions and 50 Delta
    # snapshot partitions, most of the time goes into starting tasks. Where the cores are known, the first of them
    # follows their number: adaptive execution joins small partitions, and does not divide those of windows.
    _SHUFFLE: "8",
    "spark.databricks.delta.snapshotPartitions": "2",
    # VACUUM lists a table's files in this many tasks: 10,000 by default, however few files there are.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "32",
}
# A wave is a dozen small queries. Spark caches the generated code of 100 query parts by default, fewer than a run has,
# so every wave would compile them again. The JVM reads this setting only when it starts.
_JVM_START: Final = {"spark.sql.codegen.cache.maxEntries": "1000"}
_QUIET: Final = {"spark.ui.showConsoleProgress": "false"}  # the job reports its own progress on the same stream

_PHOTOGRAPH_BYTES: Final = 4 * 2**20
_CONNECT_SECONDS: Final = 10
_MOST_CORES: Final = 2_000
"""Of a cluster that may grow without a limit."""
_ONE_YEAR: Final = 365 * 24 * 3600

CONNECT_MODE: Final = "SPARK_CONNECT_MODE_ENABLED"
"""PySpark's switch: while it is set, `pyspark.sql.functions` build Connect columns. It applies to the whole process, so
the engine that was started last decides."""

_SAIL_BATCH_ROWS: Final = "SAIL_EXECUTION__BATCH_SIZE"


@dataclass(frozen=True)
class _EmbeddedServer:
    """A server of the embedded engine in this process.

    Attributes:
        server: pysail's server; it stops when it is garbage-collected.
        remote: Its address.
    """

    server: Any
    remote: str


# Process-wide state. Embedded servers live as long as the process, because their sessions may be used anywhere in it.
_lock = threading.Lock()
_embedded: dict[str, _EmbeddedServer] = {}
"""Rows per batch -> server: Sail reads this setting only when a server starts."""
_sessions: dict[str, SparkSession] = {}
"""Server address -> session of this client."""
_started: "weakref.WeakSet[SparkSession]" = weakref.WeakSet()
"""Sessions that `start` has returned, or that have its settings."""


def start(config: Config | None = None) -> SparkSession:
    """Starts a session of the configured engine, or returns the running one.

    Args:
        config: `engine` chooses the engine; `enrich` bounds its Arrow batches. None means the defaults.

    Returns:
        A session with the time zone UTC.

    Raises:
        EngineError: The engine is not installed or not reachable.
    """
    config = config or Config()
    match config.engine.name:
        case "sail":
            session = _start_sail(config)
        case "spark":
            session = _start_spark(config)
        case "connect":
            # A running server only takes settings of its SQL engine, for this client's session.
            sql = {key: value for key, value in _spark_settings(config).items() if key.startswith("spark.sql.")}
            session = _connect(str(config.engine.remote), config, defaults=_SMALL_TABLES, settings=sql)
    _started.add(session)
    return session


def is_started_here(session: SparkSession) -> bool:
    """Checks whether `start` has returned this session, so that it has the settings of a run."""
    return session in _started


def query_settings(config: Config) -> dict[str, str]:
    """Returns the settings that a run needs of a session that has already started, in the order to set them."""
    settings = {**_spark_settings(config), **config.engine.settings}
    return {key: value for key, value in settings.items() if key.startswith(("spark.sql.", "spark.databricks."))}


def _connect(
    remote: str, config: Config, *, settings: Mapping[str, str], defaults: Mapping[str, str] | None = None
) -> SparkSession:
    """Connects to a server, or returns the session of an earlier call.

    Args:
        remote: The server's URL.
        config: `engine.settings` override the arguments below.
        settings: Settings of this client's session.
        defaults: Settings that apply only where the server has no value of its own.

    Raises:
        EngineError: The client is not installed, or the server is not reachable or refuses one of `engine.settings`.
    """
    # With gRPC's fork support 4 % of child processes abort, among them the JVM that this process may start later for
    # Apache Spark. gRPC reads the variable on first use. None of our child processes uses gRPC.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        # The client's own builder, because SparkSession.builder.remote fails while this process also has a JVM session.
        from pyspark.sql.connect.session import SparkSession as ConnectSession  # noqa: PLC0415
    except ImportError as error:
        msg = f"Spark Connect's client is not installed ({error}); install the extra faceattr_udf[sail]"
        raise EngineError(msg) from error
    os.environ[CONNECT_MODE] = "1"  # SparkSession.builder.remote would do the same
    try:
        _wait_for(remote)
        session = _sessions.get(remote)
        if session is None or not _is_usable(session):
            # Not getOrCreate, which returns the process's last session, whichever server it belongs to.
            session = cast("SparkSession", ConnectSession.builder.remote(remote).create())
            _sessions[remote] = session
            apply_settings(session, {k: v for k, v in (defaults or {}).items() if not _is_set(session, k)})
        for key, value in _UTC.items():
            session.conf.set(key, value)
        apply_settings(session, settings)
    except Exception as error:  # the client wraps gRPC's failures in several unrelated types
        server = server_address(remote)
        reason = redacted(first_line(error)).replace(remote, server)
        msg = f"the Spark Connect server {server} cannot be used ({reason}); start it or correct engine.remote"
        raise EngineError(msg) from error
    for key, value in config.engine.settings.items():
        try:
            session.conf.set(key, value)
        except PySparkException as error:
            msg = (
                f"the Spark Connect server {server_address(remote)} does not accept engine.settings {key!r} "
                f"({redacted(first_line(error))}); set it when the server starts and remove it here"
            )
            raise EngineError(msg) from error
    return session


def _is_usable(session: SparkSession) -> bool:
    """Checks whether a session was neither stopped by this client nor dropped by its server after a long idle time."""
    if session.is_stopped:  # type: ignore[attr-defined]  # only the Connect class has it
        return False
    try:
        session.conf.get("spark.sql.session.timeZone")
    except PySparkException:
        return False
    return True


def _is_set(session: SparkSession, key: str) -> bool:
    """Checks whether a server has a value of its own for a setting."""
    if hasattr(session.conf, "getAll"):
        return key in session.conf.getAll
    try:  # Spark 3.5 cannot list them, and its `get` returns the default where there is no value
        return bool(session.sql(f"SET {key}").where("value <> '<undefined>'").count())
    except PySparkException:
        return False


def _wait_for(remote: str) -> None:
    """Waits until a server answers. The client itself would retry for ten minutes before it fails.

    Raises:
        TimeoutError: The server did not answer in time.
    """
    import grpc  # noqa: PLC0415
    from pyspark.sql.connect import client  # noqa: PLC0415

    # Spark 3.5 has one builder, which later versions made abstract.
    builder: Any = getattr(client, "DefaultChannelBuilder", None) or client.ChannelBuilder
    channel = builder(remote).toChannel()
    try:
        grpc.channel_ready_future(channel).result(timeout=_CONNECT_SECONDS)
    except grpc.FutureTimeoutError as error:
        msg = f"no answer within {_CONNECT_SECONDS} s"
        raise TimeoutError(msg) from error
    finally:
        channel.close()


def _start_sail(config: Config) -> SparkSession:
    """Connects to this process's embedded server, which it starts when needed.

    A configuration with another `enrich.max_batch_rows` gets another server in the same process. Its session does not
    see the temporary views and catalog tables of the first.
    """
    batch_rows = os.environ.get(_SAIL_BATCH_ROWS) or str(config.enrich.max_batch_rows)
    with _lock:
        if batch_rows not in _embedded:
            _embedded[batch_rows] = _start_server(batch_rows)
    return _connect(_embedded[batch_rows].remote, config, settings={})


def _start_server(batch_rows: str) -> _EmbeddedServer:
    # An embedded server ends with the process. A notebook that is idle for 15 minutes, Sail's default, should go on.
    os.environ.setdefault("SAIL_SPARK__SESSION_TIMEOUT_SECS", str(_ONE_YEAR))
    os.environ.setdefault("RUST_LOG", "error")  # its log shares stderr with the job's progress
    try:
        from pysail.spark import SparkConnectServer  # noqa: PLC0415
    except ImportError as error:
        msg = "engine sail is not installed; install the extra faceattr_udf[sail] or set engine.name"
        raise EngineError(msg) from error
    given = os.environ.get(_SAIL_BATCH_ROWS)
    # Without it a scan's batches have 8192 rows, and those rows are photographs.
    os.environ[_SAIL_BATCH_ROWS] = batch_rows
    try:
        server = SparkConnectServer("127.0.0.1", 0)
        server.start(background=True)
    finally:
        if given is None:
            del os.environ[_SAIL_BATCH_ROWS]
    if server.listening_address is None:
        msg = "engine sail did not start listening; check that a local port can be opened"
        raise EngineError(msg)
    host, port = server.listening_address
    return _EmbeddedServer(server, f"sc://{host}:{port}")


def _start_spark(config: Config) -> SparkSession:
    """Starts a JVM session in this process, or returns the running one."""
    # An engine started before may have set it: the JVM would start in Connect mode.
    os.environ.pop(CONNECT_MODE, None)
    # Workers would otherwise run the first python3 on the PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(config.engine.app_name)
    settings = {
        **_DELTA,
        **_SMALL_TABLES,
        **_JVM_START,
        **_QUIET,
        **_spark_settings(config),
        **config.engine.settings,
    }
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # set by spark-submit
        settings = _without_submitted(settings)
    elif SparkContext._active_spark_context is not None:
        pass  # the JVM runs already and can take no jars; the session's own settings still apply
    else:
        master = config.engine.master or "local[*]"
        if master.startswith("local-cluster"):
            # Spark starts the workers of such a cluster with scripts below SPARK_HOME.
            os.environ.setdefault("SPARK_HOME", str(Path(pyspark.__file__).parent))
        builder = builder.master(_with_retries(master))
        settings = with_jars({**jvm_settings(master, os.cpu_count() or 1, machine_memory()), **settings})
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        if _SHUFFLE in settings and _SHUFFLE not in config.engine.settings:
            context = session.sparkContext
            n_partitions = shuffle_partitions(dict(context.getConf().getAll()), context.defaultParallelism)
            session.conf.set(_SHUFFLE, str(n_partitions))
    except Exception as error:  # py4j and the launcher raise several unrelated types
        reason = redacted(first_line(error))
        # Where the JVM does not even start, Python knows nothing more than that.
        problem = java_problem(spark_version()) if "GATEWAY" in reason.upper() else None
        wanted = " or ".join(map(str, sorted(java_versions(spark_version()))))
        fix = "the lines that Spark has printed above may say more; correct engine.settings"
        if problem:
            fix = f"it needs Java {wanted}: {problem}"
        msg = f"engine spark cannot start ({reason}); {fix}"
        raise EngineError(msg) from error
    return session


def _without_submitted(settings: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings that spark-submit's command line does not set: the command line takes precedence."""
    SparkContext._ensure_initialized()  # SparkConf() knows the command line only after this
    given = dict(SparkConf().getAll())
    return {key: value for key, value in settings.items() if key not in given}


def shuffle_partitions(conf: Mapping[str, str], running_cores: int) -> int:
    """Returns twice the number of cores that a session has, or may get while it runs.

    Args:
        conf: Spark's settings.
        running_cores: The cores of the executors that have started.

    >>> shuffle_partitions({}, 2)
    4
    >>> shuffle_partitions({"spark.executor.instances": "10", "spark.executor.cores": "4"}, 2)
    80
    """
    of_each = int(conf.get("spark.executor.cores", "1"))
    names = ("spark.executor.instances", "spark.dynamicAllocation.maxExecutors")
    promised = [int(conf[name]) * of_each for name in names if conf.get(name, "").isdecimal()]
    if conf.get("spark.cores.max", "").isdecimal():
        promised.append(int(conf["spark.cores.max"]))
    return 2 * max(1, running_cores, min(max(promised, default=0), _MOST_CORES))


def _with_retries(master: str) -> str:
    """Returns a local master that tries a task four times, as clusters do; by default one dead worker ends the job.

    >>> _with_retries("local[*]"), _with_retries("local"), _with_retries("local[2,1]"), _with_retries("spark://host:7077")
    ('local[*,4]', 'local[1,4]', 'local[2,1]', 'spark://host:7077')
    """
    if master == "local":
        return "local[1,4]"
    return re.sub(r"^local\[([^,\]]+)\]$", r"local[\1,4]", master)


def _spark_settings(config: Config) -> dict[str, str]:
    """Returns the settings of every Spark session that depend on the configuration."""
    rows = config.enrich.max_batch_rows
    # For readers that count rows alone.
    few_rows = max(1, min(rows, config.enrich.max_batch_bytes // _PHOTOGRAPH_BYTES))
    if spark_version().startswith("3."):  # it does not know maxBytesPerBatch
        rows = few_rows
    return {
        **_UTC,
        **_READING,
        "spark.redaction.regex": SPARK_REDACTION,
        # Arrow batches are counted in rows by default, and 10,000 photographs in one batch are gigabytes.
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(rows),
        "spark.sql.execution.arrow.maxBytesPerBatch": str(config.enrich.max_batch_bytes),
        # Small images take long per byte. With the default of 128 MiB a wave of them would be one task, and the other
        # cores would wait.
        "spark.sql.files.maxPartitionBytes": str(ROW_GROUP_BYTES),
        # The vectorized reader would otherwise hold 4096 photographs in memory.
        "spark.sql.parquet.columnarReaderBatchSize": str(few_rows),
    }
