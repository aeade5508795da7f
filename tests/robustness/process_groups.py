"""Jobs in process groups of their own, which can be killed as a whole or in part."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Job:
    """A started command and everything that it has started."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        names = ("PYSPARK_", "SPARK_")  # what this process has told itself about Spark
        environment = {name: value for name, value in os.environ.items() if not name.startswith(names)}
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
        """Waits until the command and all that it has started have ended; its exit code."""
        code = self._process.wait(seconds)
        self.kill()
        return code

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self, who: str = "all") -> bool:
        """SIGKILL to "all" of it, its "driver", its "jvm" or a Spark "worker" alone; whether there was one."""
        found = False
        for _ in range(50):
            living = list(self._members(who))
            for pid in living:
                try:
                    os.kill(pid, signal.SIGKILL)
                    found = True
                except ProcessLookupError:
                    pass
            if who != "all":
                return found
            if not living:
                break
            time.sleep(0.02)
        return found

    def _members(self, who: str) -> Iterator[int]:
        """Processes of the session; those that are dead and not yet reaped do not count."""
        session = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if int(fields[3]) == self._process.pid and fields[0] not in "ZX":
                session.append((int(folder.name), int(fields[1]), command))
        daemons = {pid for pid, _, command in session if "pyspark.daemon" in command}
        for pid, parent, command in session:
            is_jvm = command.split("\0")[0].endswith("java")
            chosen = {
                "all": True,
                "driver": pid == self._process.pid,
                "jvm": is_jvm,
                "worker": pid in daemons and parent in daemons,
            }
            if chosen[who]:
                yield pid
                if who == "worker":
                    return
