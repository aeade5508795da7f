"""Sessions: one code path for the embedded engine, Apache Spark, and a Spark Connect server."""

import importlib.metadata
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any, Final, cast

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from faceattr_udf.config import Config, server_address
from faceattr_udf.errors import EngineError
from faceattr_udf.sanitize import SPARK_REDACTION, first_line, redacted
from faceattr_udf.spark.jars import with_jars
from faceattr_udf.spark.schemas import ROW_GROUP_BYTES

_DELTA: Final = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
_UTC: Final = {"spark.sql.session.timeZone": "UTC"}
_SMALL: Final = {
    # The tables that are shuffled hold keys and rows of text, never images: Spark's 200 shuffle partitions and Delta's
    # 50 snapshot partitions are mostly the overhead of starting tasks. Adaptive execution still splits large ones.
    "spark.sql.shuffle.partitions": "8",
    "spark.databricks.delta.snapshotPartitions": "2",
    # VACUUM lists a table's files in so many tasks, 10,000 by default, however few files there are.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "32",
}
# A wave is a dozen small queries. Spark keeps the code that it compiled for the last 100 parts of queries, fewer than a
# night has, and would compile each of them anew in every wave. The number is fixed when the JVM starts.
_AT_START: Final = {"spark.sql.codegen.cache.maxEntries": "1000"}
_QUIET: Final = {"spark.ui.showConsoleProgress": "false"}  # the job reports its own progress on the same stream

_CONNECT_SECONDS: Final = 10
_ONE_YEAR: Final = 365 * 24 * 3600

_lock = threading.Lock()
_sail: dict[str, Any] = {}
_connected: dict[str, SparkSession] = {}


def start(config: Config | None = None) -> SparkSession:
    """Starts, or finds, the session of the configured engine.

    Args:
        config: `engine` chooses it; `enrich` bounds its Arrow batches. None means the defaults.

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
            # A server that runs takes settings of its SQL engine, for this client's session, and no others.
            sql = {key: value for key, value in _spark_settings(config).items() if key.startswith("spark.sql.")}
            session = _connect(str(config.engine.remote), config, _SMALL, sql)
    return session


def _connect(remote: str, config: Config, unless_given: dict[str, str], always: dict[str, str]) -> SparkSession:
    """Connects to a server, or finds the connection.

    Args:
        remote: The server.
        config: `engine.settings` have the last word in this client's session.
        unless_given: Settings that hold where the server has not been told otherwise.
        always: Settings of this client's session.
    """
    # What gRPC does when its process forks aborts four in a hundred children: a JVM that this process starts later, for
    # Apache Spark, would sometimes not come. It is read when gRPC is first used; no child of ours uses gRPC.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        # The client's own builder: SparkSession.builder.remote refuses while this process also has a JVM session.
        from pyspark.sql.connect.session import SparkSession as ConnectSession  # noqa: PLC0415
    except ImportError as error:
        msg = f"Spark Connect's client is not installed ({error}); install the extra faceattr_udf[sail]"
        raise EngineError(msg) from error
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"  # as that builder does: functions.* then build Connect columns
    try:
        _wait_for(remote)
        session = _connected.get(remote)
        if session is None or not _lives(session):
            # Not getOrCreate, which finds the process's last session whatever server that has.
            session = cast("SparkSession", ConnectSession.builder.remote(remote).create())
            _connected[remote] = session
            given = session.conf.getAll
            for key in unless_given.keys() - given.keys():
                session.conf.set(key, unless_given[key])
        for key, value in always.items():
            session.conf.set(key, value)
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
                f"the Spark Connect server {server_address(remote)} does not take engine.settings {key!r} "
                f"({redacted(first_line(error))}); give it to the server at its start and leave it out here"
            )
            raise EngineError(msg) from error
    return session


def _lives(session: SparkSession) -> bool:
    """Whether this client has not stopped a session and its server still knows it: it drops those long unused."""
    if session.is_stopped:  # type: ignore[attr-defined]  # only the Connect class has it
        return False
    try:
        session.conf.get("spark.sql.session.timeZone")
    except PySparkException:
        return False
    return True


def _wait_for(remote: str) -> None:
    """Waits until a server answers; the client itself would retry for ten minutes before it says that none does."""
    import grpc  # noqa: PLC0415
    from pyspark.sql.connect.client import DefaultChannelBuilder  # noqa: PLC0415

    channel = DefaultChannelBuilder(remote).toChannel()
    try:
        grpc.channel_ready_future(channel).result(timeout=_CONNECT_SECONDS)
    except grpc.FutureTimeoutError as error:
        msg = f"no answer within {_CONNECT_SECONDS} s"
        raise TimeoutError(msg) from error
    finally:
        channel.close()


def _start_sail(config: Config) -> SparkSession:
    with _lock:
        if "remote" not in _sail:
            # Read when the server starts. A scan's batches are otherwise 8192 rows, and those rows are photographs.
            os.environ.setdefault("SAIL_EXECUTION__BATCH_SIZE", str(config.enrich.max_batch_rows))
            # The server ends with this process: a notebook that nobody touches for a quarter of an hour shall go on.
            os.environ.setdefault("SAIL_SPARK__SESSION_TIMEOUT_SECS", str(_ONE_YEAR))
            os.environ.setdefault("RUST_LOG", "error")  # its log shares stderr with the job's progress
            try:
                from pysail.spark import SparkConnectServer  # noqa: PLC0415
            except ImportError as error:
                msg = "engine sail is not installed; install the extra faceattr_udf[sail] or set engine.name"
                raise EngineError(msg) from error
            server = SparkConnectServer("127.0.0.1", 0)
            server.start(background=True)
            if server.listening_address is None:
                msg = "engine sail did not start listening; check that a local port can be opened"
                raise EngineError(msg)
            host, port = server.listening_address
            _sail["server"] = server  # it stops when collected
            _sail["remote"] = f"sc://{host}:{port}"
        remote = str(_sail["remote"])
    return _connect(remote, config, {}, _UTC)


def _start_spark(config: Config) -> SparkSession:
    try:
        import pyspark  # noqa: PLC0415

        importlib.metadata.version("delta_spark")
    except (ImportError, importlib.metadata.PackageNotFoundError) as error:
        msg = f"engine spark is not installed ({error}); install the extra faceattr_udf[spark]"
        raise EngineError(msg) from error
    os.environ.pop("SPARK_CONNECT_MODE_ENABLED", None)
    # Workers would otherwise start whatever python3 the PATH finds.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # set by spark-submit, whose command line has the last word
    builder = SparkSession.builder.appName(config.engine.app_name)
    settings = {
        **_DELTA,
        **_SMALL,
        **_AT_START,
        **_QUIET,
        **_spark_settings(config),
        **config.engine.settings,
    }
    if not submitted:
        master = config.engine.master or "local[*]"
        if master.startswith("local-cluster"):
            # Its worker processes are started with Spark's own scripts.
            os.environ.setdefault("SPARK_HOME", str(Path(pyspark.__file__).parent))
        builder = builder.master(_with_retries(master))
        settings = with_jars(settings)
    else:
        from pyspark import SparkConf, SparkContext  # noqa: PLC0415

        SparkContext._ensure_initialized()  # before that, SparkConf() does not know the command line
        given = dict(SparkConf().getAll())
        settings = {key: value for key, value in settings.items() if key not in given}
    for key, value in settings.items():
        builder = builder.config(key, value)
    # Set by an engine that this process used before: a JVM would start in that mode, and functions.* build its columns.
    os.environ.pop("SPARK_CONNECT_MODE_ENABLED", None)
    try:
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
    except Exception as error:  # py4j and the launcher raise several unrelated types
        reason = redacted(first_line(error))
        msg = f"engine spark cannot start ({reason}); it needs Java 17 or 21, and what engine.settings ask for"
        raise EngineError(msg) from error
    return session


def _with_retries(master: str) -> str:
    """Lets a local master try a task four times, as clusters do: it is otherwise the end of the job when a worker dies.

    >>> _with_retries("local[*]"), _with_retries("local"), _with_retries("local[2,1]"), _with_retries("spark://host:7077")
    ('local[*,4]', 'local[1,4]', 'local[2,1]', 'spark://host:7077')
    """
    if master == "local":
        return "local[1,4]"
    return re.sub(r"^local\[([^,\]]+)\]$", r"local[\1,4]", master)


def _spark_settings(config: Config) -> dict[str, str]:
    return {
        **_UTC,
        "spark.redaction.regex": SPARK_REDACTION,
        # Arrow batches are counted in rows by default, and 10,000 photographs in one batch are gigabytes.
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(config.enrich.max_batch_rows),
        "spark.sql.execution.arrow.maxBytesPerBatch": str(config.enrich.max_batch_bytes),
        # Pictures are work, not bytes: of a file of small ones, whose waves lie close together, the default of 128 MiB
        # makes one task, and the other cores wait.
        "spark.sql.files.maxPartitionBytes": str(ROW_GROUP_BYTES),
        # Row groups of photographs are large; the vectorised reader would hold 4096 rows of them.
        "spark.sql.parquet.columnarReaderBatchSize": str(config.enrich.max_batch_rows),
    }
