"""Runs jobs in separate sessions whose processes can be killed together or one by one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import psutil

ROOT = Path(__file__).parents[2]

Target = Literal["all", "driver", "jvm", "worker"]


class JobProcess:
    """A command and every process that it starts."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        own_settings = ("PYSPARK_", "SPARK_")  # set by the Spark session of this process
        environment = {name: value for name, value in os.environ.items() if not name.startswith(own_settings)}
        with log.open("w") as output:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment | {"PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float = 240) -> int:
        """Waits for the command, kills the processes that it left behind, and returns its exit code."""
        code = self._process.wait(seconds)
        self.kill()
        return code

    def output(self) -> str:
        """Returns everything that was written to stdout and stderr."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self, target: Target = "all") -> bool:
        """Sends SIGKILL to all processes, the driver, the JVM or one Spark worker; returns whether there was one."""
        found = False
        for _ in range(50):
            pids = self._pids(target)
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                    found = True
                except ProcessLookupError:
                    pass
            if target != "all":
                return found
            if not pids:
                break
            time.sleep(0.02)
        return found

    def _pids(self, target: Target) -> list[int]:
        """Returns the living processes of the session that match a target; zombies do not count."""
        session = []
        for process in psutil.process_iter(["ppid", "status", "cmdline"]):
            try:
                in_session = os.getsid(process.pid) == self._process.pid
            except ProcessLookupError:
                continue
            if in_session and process.info["status"] not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
                session.append((process.pid, process.info["ppid"], process.info["cmdline"] or [""]))
        match target:
            case "driver":
                return [pid for pid, _, _ in session if pid == self._process.pid]
            case "jvm":
                return [pid for pid, _, command in session if command[0].endswith("java")]
            case "worker":
                daemons = {pid for pid, _, command in session if "pyspark.daemon" in command}
                return [pid for pid, parent, _ in session if pid in daemons and parent in daemons][:1]
        return [pid for pid, _, _ in session]
