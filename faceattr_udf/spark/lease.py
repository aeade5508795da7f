"""The lease on a folder: one job at a time writes there, and one that was killed does not stand in the way."""

import contextlib
import os
import socket
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog
from pyarrow import fs
from pydantic import BaseModel, ConfigDict, Field

from faceattr_udf.errors import BusyError, EngineError
from faceattr_udf.spark.locations import file_system, join, local_path

_BEATS: Final = 6
"""Heartbeats in the time after which a silent holder counts as dead."""
_POLL_SECONDS: Final = 0.25

log = structlog.get_logger(__name__)


def _machine() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _state(pid: int) -> tuple[str, int] | None:
    """The state of a process and when it started; None where the system does not say."""
    try:
        # The name before the last parenthesis may hold blanks and parentheses itself.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[19])


def _born() -> int | None:
    state = _state(os.getpid())
    return state[1] if state else None


class Claim(BaseModel):
    """Who claims a folder; written once.

    Attributes:
        writer: The job and its run, for people.
        since: When, ISO 8601 in UTC.
        host: The machine's name, for people.
        machine: Changes with every start of the machine and differs between containers; None where the system does not
            say, and then only the heartbeat tells whether the process lives.
        pid: The process.
        born: When the process started, in the system's ticks: a pid is used again.
        claim_id: Unique; among writers that start together the smallest goes first.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    writer: str
    since: str = Field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}")
    host: str = Field(default_factory=socket.gethostname)
    machine: str | None = Field(default_factory=_machine)
    pid: int = Field(default_factory=os.getpid, gt=0, lt=2**31)
    born: int | None = Field(default_factory=_born)
    claim_id: str = Field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}")

    def alive(self) -> bool | None:
        """Whether the process runs; None where this machine cannot know."""
        if self.machine is None or self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)  # which only asks
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # another user's, and so there may be no looking at it
        state = _state(self.pid)
        if state is None:
            return None
        # A dead one that nobody has asked for yet still has its number.
        return state[0] not in {"Z", "X"} and state[1] == self.born

    def __str__(self) -> str:
        return f"{self.writer} (process {self.pid} on {self.host}, since {self.since} UTC)"


class Lease:
    """The right to write below a folder, as a context.

    Object stores have no locks, so it is made of what every store has: a claim is a file of its own in `FOLDER/_lease`,
    and whoever sees no claim but his own after he has written it holds the lease. A second file beside it changes as
    long as the holder lives. Nobody's clock is compared with another's: a watcher waits whether that file changes.

    A job that was killed on this machine is recognised at once; one of another machine, or of a system without /proc,
    when its heartbeat has not changed for `seconds`. A holder that stood still for so long and then wakes up finds its
    claim gone (`check`). Where the folder cannot be reached from here (a store without credentials for Arrow) there is
    no lease; the log says so, and Delta's own conflict detection is all there is.
    """

    def __init__(self, folder: str, writer: str, seconds: float) -> None:
        self._place = folder
        self._folder = join(folder, "_lease")
        self._mine = Claim(writer=writer)
        self._seconds = seconds
        self._seen: dict[str, tuple[bytes | None, float]] = {}
        self._claimed = False
        self._held = False
        self._beat = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        """Waits for the lease as long as it takes to see whether others are alive.

        Raises:
            BusyError: Another one holds it and is alive.
        """
        try:
            self._system, self._root = file_system(self._folder)
            self._acquire()
            self._held = True
        except (EngineError, OSError) as error:
            log.warning(
                "no lease: see to it that one job at a time writes there", folder=self._place, reason=str(error)
            )
        finally:
            if not self._held:
                self._withdraw()
        if self._held:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Gives it back."""
        if self._held:
            self._stop.set()
            self._thread.join()
            self._withdraw()

    def check(self) -> None:
        """Checks, before a commit, that the lease has not passed to another.

        Raises:
            BusyError: It has: this process stood still for longer than the lease lasts.
        """
        if not self._held:
            return
        try:
            lost = self._system.get_file_info(self._file(self._mine.claim_id)).type == fs.FileType.NotFound
        except OSError as error:
            log.warning("the lease cannot be looked at", folder=self._folder, reason=str(error))
            lost = time.monotonic() - self._last > self._seconds
        if lost:
            msg = (
                f"{self._place} has passed to another writer while this one stood still for more than "
                f"{self._seconds:g} s (runtime.lease_seconds); nothing is lost, run it again when the other has ended"
            )
            raise BusyError(msg)

    def _acquire(self) -> None:
        while True:
            rivals = self._rivals()
            if not rivals and self._claimed:
                self._pulse()
                self._tidy()
                return
            if not rivals:
                self._claim()
                continue
            if self._claimed and min(rivals) < self._mine.claim_id:
                self._withdraw()
            time.sleep(_POLL_SECONDS)

    def _rivals(self) -> list[str]:
        """Ids of others that claim the lease and may be alive; the dead ones' claims are removed.

        Raises:
            BusyError: One of them holds it and is alive.
        """
        try:
            infos = self._system.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
        except FileNotFoundError:  # a holder has removed the empty folder while it was being listed
            infos = []
        found = {info.base_name.removesuffix(".json") for info in infos if info.extension == "json"}
        found = {name for name in found if not name.startswith("_")} - {self._mine.claim_id}
        return [claim_id for claim_id in sorted(found) if self._may_live(claim_id)]

    def _may_live(self, claim_id: str) -> bool:
        text, beat = self._read(self._file(claim_id)), self._read(self._file(claim_id, "beat"))
        if text is None:
            return False
        claim = _parse(text)
        alive = claim.alive() if claim else None
        now = time.monotonic()
        if claim_id not in self._seen:
            self._seen[claim_id] = (beat, now)
            if alive is None:
                log.info("waiting to see whether another writer is alive", writer=str(claim), seconds=self._seconds)
        before, since = self._seen[claim_id]
        # Without a heartbeat it does not hold the lease yet, or does not any more.
        if beat and (alive or beat != before):
            msg = f"{self._place} is being written by {claim}; wait until that has ended and run this again"
            raise BusyError(msg)
        if alive is False or now - since > self._seconds:
            log.warning("a writer was killed; its lease is over", folder=self._place, writer=str(claim))
            self._remove(claim_id)
            return False
        return True

    def _claim(self) -> None:
        # Renamed, so that nobody reads half of it; nothing is overwritten, which not every store can do in a rename.
        unfinished = f"{self._root}/_{self._mine.claim_id}.json"
        for attempt in range(1, _BEATS + 1):
            try:
                self._system.create_dir(self._root, recursive=True)
                self._write(unfinished, self._mine.model_dump_json().encode())
                self._system.move(unfinished, self._file(self._mine.claim_id))
                self._claimed = True
                return
            except FileNotFoundError:  # a holder has just removed the empty folder, or what is not finished
                if attempt == _BEATS:
                    raise

    def _tidy(self) -> None:
        """Removes what writers that were killed have left and that is no claim."""
        for info in self._system.get_file_info(fs.FileSelector(self._root)):
            if info.base_name.startswith("_") or info.extension == "beat":
                claim_id = info.base_name.removesuffix(".beat")
                if claim_id != self._mine.claim_id:
                    with contextlib.suppress(OSError):
                        self._system.delete_file(info.path)

    def _withdraw(self) -> None:
        if self._claimed:
            self._claimed = False
            self._remove(self._mine.claim_id)

    def _keep(self) -> None:
        while not self._stop.wait(self._seconds / _BEATS):
            try:
                self._pulse()
            except OSError as error:
                log.warning("the lease's heartbeat cannot be written", folder=self._folder, reason=str(error))

    def _pulse(self) -> None:
        self._beat += 1
        self._write(self._file(self._mine.claim_id, "beat"), str(self._beat).encode())
        self._last = time.monotonic()

    def _file(self, claim_id: str, suffix: str = "json") -> str:
        return f"{self._root}/{claim_id}.{suffix}"

    def _write(self, name: str, content: bytes) -> None:
        with self._system.open_output_stream(name) as stream:
            stream.write(content)

    def _read(self, name: str) -> bytes | None:
        try:
            with self._system.open_input_stream(name) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def _remove(self, claim_id: str) -> None:
        try:
            for suffix in ("beat", "json"):
                name = self._file(claim_id, suffix)
                if self._system.get_file_info(name).type == fs.FileType.File:
                    self._system.delete_file(name)
        except OSError as error:
            log.info("a lease's file is left", folder=self._folder, reason=str(error))
        path = local_path(self._folder)
        if path is not None:
            with contextlib.suppress(OSError):  # another's claim is in it
                path.rmdir()


def _parse(text: bytes) -> Claim | None:
    try:
        return Claim.model_validate_json(text)
    except ValueError:
        return None
