"""Starts Apache Spark in separate processes, from the installed pyspark: a standalone cluster or a Connect server."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pyspark

from faceattr_udf.spark.jars import with_jars

HOME = Path(pyspark.__file__).parent
ADDRESS = "127.0.0.1"
DELTA_SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}


def environment(**more: str) -> dict[str, str]:
    """Returns this process's environment without its settings for Spark and without a path to this repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYSPARK_", "SPARK_", "PYTHON"))}
    return kept | {"SPARK_HOME": str(HOME), "SPARK_LOCAL_IP": ADDRESS} | more


def conf(settings: Mapping[str, str]) -> list[str]:
    """Returns settings as arguments of spark-submit."""
    return [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


@dataclass
class Server:
    """A process that leads a POSIX session, and the file with its output."""

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """Kills the process and all its descendants, including orphans."""
        mine = [process for process in psutil.process_iter() if _session(process.pid) == self.process.pid]
        for process in mine:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        psutil.wait_procs(mine, timeout=10)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
        """Waits for a condition; fails with the log if the process ends first or the time is over."""
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                msg = f"{what}: did not happen\n{self.log.read_text()}"
                raise AssertionError(msg)
            time.sleep(0.02)


@contextmanager
def running(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Iterator[Server]:
    """Runs a process in a folder, and kills it and its descendants at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("wb") as file:
        server = Server(
            subprocess.Popen(  # noqa: S603
                command, cwd=folder, env=variables, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            ),
            log,
        )
    try:
        yield server
    finally:
        server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((ADDRESS, port)) == 0


@contextmanager
def connect_server(folder: Path, settings: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[str]:
    """Runs a Spark Connect server on two cores; yields its address."""
    port = _free_port()
    command = [str(HOME / "bin" / "spark-submit"), "--master", "local[2]"]
    command += conf({**with_jars(DELTA_SETTINGS), **settings, "spark.connect.grpc.binding.port": str(port)})
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    with running(command, folder, environment(**variables)) as server:
        server.until(lambda: _listens(port), "the Connect server listens")
        yield f"sc://{ADDRESS}:{port}"


@dataclass
class Node:
    """A Spark worker process, which starts an executor, which starts Python workers."""

    server: Server

    def busy_worker(self, seen: dict[int, float]) -> psutil.Process | None:
        """Returns a Python worker whose analyzer has just begun to work, so that its task will not end soon.

        The analyzer's CPU time is measured, because an idle worker also uses some.

        Args:
            seen: Pid of an analyzer process -> its CPU seconds at the first call; updated by this call.
        """
        for worker in self._python_workers():
            with suppress(psutil.NoSuchProcess):  # it ended meanwhile
                for analyzer in worker.children():
                    time = analyzer.cpu_times()
                    seconds = time.user + time.system
                    if seconds - seen.setdefault(analyzer.pid, seconds) > 0.1:
                        return worker
        return None

    def _python_workers(self) -> list[psutil.Process]:
        """Returns the processes that Spark's Python daemons have forked."""
        parents = {}
        for process in psutil.Process(self.server.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "pyspark.daemon" in process.cmdline():
                    parents[process] = process.ppid()
        python = {process.pid for process in parents}
        return [process for process, parent in parents.items() if parent in python]


@dataclass
class Cluster:
    """A standalone cluster."""

    url: str
    nodes: list[Node]


@contextmanager
def standalone(folder: Path) -> Iterator[Cluster]:
    """Runs a master and two workers with one core each."""
    port = _free_port()
    # The master's REST interface has a fixed port, which may be in use.
    variables = {"SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false", "SPARK_DAEMON_MEMORY": "256m"}
    spark_class = [str(HOME / "bin" / "spark-class")]
    anywhere = ["--host", ADDRESS, "--webui-port", "0"]
    master_command = [*spark_class, "org.apache.spark.deploy.master.Master", *anywhere, "--port", str(port)]
    url = f"spark://{ADDRESS}:{port}"
    with ExitStack() as stack:
        master = stack.enter_context(running(master_command, folder / "master", environment(**variables)))
        master.until(lambda: _listens(port), "the master listens")
        nodes = []
        for number in range(2):
            # A killed node leaves its unpacked environments behind.
            files = stack.enter_context(TemporaryDirectory(prefix=f"node_{number}_"))
            command = [*spark_class, "org.apache.spark.deploy.worker.Worker", *anywhere, "--work-dir", files]
            command += ["--cores", "1", "--memory", "2g", url]
            own = environment(**variables, SPARK_LOCAL_DIRS=files)
            nodes.append(Node(stack.enter_context(running(command, folder / f"worker_{number}", own))))
        master.until(lambda: master.log.read_text().count("Registering worker") == 2, "both workers register")
        yield Cluster(url, nodes)
