"""The lease on a folder: only one job writes there at a time, and a killed job does not block the next one."""

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

import psutil
import structlog
from pyarrow import fs
from pydantic import BaseModel, ConfigDict, Field

from faceattr_udf.errors import BusyError, EngineError
from faceattr_udf.spark.locations import file_system, join, local_path

_HEARTBEATS: Final = 6
"""Heartbeats per lease duration, so that one late heartbeat does not lose the lease."""
_POLL_SECONDS: Final = 0.25
_CLAIM_ATTEMPTS: Final = 6
"""Writers that end remove the empty folder, and a new one may meet several of them."""

log = structlog.get_logger(__name__)


def _machine() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _status_and_start(pid: int) -> tuple[str, float] | None:
    """Returns a process's status and its start in seconds after boot; None where the system does not tell."""
    try:
        boot = psutil.boot_time()  # first, because older versions of psutil use it in create_time
        process = psutil.Process(pid)
        # Both change when the clock is set, and their difference does not.
        return process.status(), round(process.create_time() - boot, 2)
    except (psutil.Error, OSError, RuntimeError):
        return None


def _own_start() -> float | None:
    found = _status_and_start(os.getpid())
    return found[1] if found else None


class Claim(BaseModel):
    """A writer's claim to a folder; written once.

    Attributes:
        writer: The job and its run, for people.
        since: Start of the claim, for people: ISO 8601 in UTC.
        host: The machine's name, for people.
        machine: Boot and container of the process; None where the system does not tell them, and then only the
            heartbeat shows whether the process is alive.
        pid: The process.
        process_start: When the process started, in seconds after boot, because process ids are reused.
        claim_id: Unique; among writers that claim at the same time the smallest wins.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    writer: str
    since: str = Field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}")
    host: str = Field(default_factory=socket.gethostname)
    machine: str | None = Field(default_factory=_machine)
    pid: int = Field(default_factory=os.getpid, gt=0, lt=2**31)
    process_start: float | None = Field(default_factory=_own_start)
    claim_id: str = Field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}")

    def alive(self) -> bool | None:
        """Checks whether the process runs; None where this machine cannot know."""
        if self.machine is None or self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)  # signal 0 only asks whether the process exists
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it exists and belongs to another user
        found = _status_and_start(self.pid)
        if found is None or self.process_start is None:
            return None  # it ended just now, or the system hides other users' processes
        status, start = found
        # A zombie has ended but keeps its process id.
        return status not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD} and start == self.process_start

    def __str__(self) -> str:
        return f"{self.writer} (process {self.pid} on {self.host}, since {self.since} UTC)"


class Lease:
    """The exclusive right to write below a folder, as a context manager.

    It needs no lock, because object stores have none. A writer creates a claim file in `FOLDER/_lease`; it holds the
    lease if it sees no other claim after that. The holder keeps changing a heartbeat file beside its claim. Clocks of
    different machines are never compared: others wait to see whether the heartbeat changes. Leases of another `name`,
    which is their subfolder, are independent.

    A killed holder on this machine is recognized at once; one on another machine, or on a system without /proc, after
    its heartbeat has not changed for `seconds`. A holder that was suspended for that long finds its claim removed when
    it continues (`check`). Where Arrow cannot reach the folder (a store without credentials) there is no lease; the log
    warns of it, and only Delta's own conflict detection remains.
    """

    def __init__(self, folder: str, writer: str, seconds: float, name: str = "_lease") -> None:
        self._location = folder
        self._folder = join(folder, name)
        self._claim = Claim(writer=writer)
        self._seconds = seconds
        self._first_seen: dict[str, tuple[bytes | None, float]] = {}
        self._claimed = False
        self._held = False
        self._heartbeat = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="lease", daemon=True)
        self._last_heartbeat = time.monotonic()

    def __enter__(self) -> Self:
        """Takes the lease; waits only while it is unknown whether another writer is alive.

        Raises:
            BusyError: A live writer holds the lease.
        """
        try:
            self._system, self._root = file_system(self._folder)
            self._acquire()
            self._held = True
        except (EngineError, OSError) as error:
            advice = "make sure that only one job writes to this folder"
            log.warning("lease_unavailable", folder=self._location, reason=str(error), advice=advice)
        finally:
            if not self._held:
                self._withdraw()
        if self._held:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Releases the lease."""
        if self._held:
            self._stop.set()
            self._thread.join()
            self._withdraw()

    @property
    def held(self) -> bool:
        """Whether the lease was taken; False where the folder cannot be reached."""
        return self._held

    def check(self) -> None:
        """Checks, before a commit, that this process still holds the lease.

        Raises:
            BusyError: Another writer has taken it, because this process was suspended for longer than the lease lasts.
        """
        if not self._held:
            return
        try:
            lost = self._system.get_file_info(self._file(self._claim.claim_id)).type == fs.FileType.NotFound
        except OSError as error:
            log.warning("lease_check_failed", folder=self._folder, reason=str(error))
            lost = time.monotonic() - self._last_heartbeat > self._seconds
        if lost:
            msg = (
                f"another writer has taken over {self._location}, because this one did not respond for more than "
                f"{self._seconds:g} s (runtime.lease_seconds); earlier commits are kept, run this again when the other "
                "has ended"
            )
            raise BusyError(msg)

    def _acquire(self) -> None:
        while True:
            rivals = self._rivals()
            if not rivals and self._claimed:
                self._beat()
                self._remove_leftovers()
                return
            if not rivals:
                self._write_claim()
                continue
            if self._claimed and min(rivals) < self._claim.claim_id:
                self._withdraw()
            time.sleep(_POLL_SECONDS)

    def _rivals(self) -> list[str]:
        """Returns the ids of other claims whose writers may be alive, and removes the claims of dead writers.

        Raises:
            BusyError: A live writer holds the lease.
        """
        try:
            infos = self._system.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
        except FileNotFoundError:  # a holder removed the empty folder while it was listed
            infos = []
        found = {info.base_name.removesuffix(".json") for info in infos if info.extension == "json"}
        found = {name for name in found if not name.startswith("_")} - {self._claim.claim_id}
        return [claim_id for claim_id in sorted(found) if self._may_be_alive(claim_id)]

    def _may_be_alive(self, claim_id: str) -> bool:
        text, heartbeat = self._read(self._file(claim_id)), self._read(self._file(claim_id, "beat"))
        if text is None:
            return False
        claim = _parse(text)
        alive = claim.alive() if claim else None
        now = time.monotonic()
        if claim_id not in self._first_seen:
            self._first_seen[claim_id] = (heartbeat, now)
            if alive is None:
                log.info("lease_wait", writer=str(claim), seconds=self._seconds)
        before, since = self._first_seen[claim_id]
        # A writer without a heartbeat does not hold the lease yet, or no longer.
        if heartbeat and (alive or heartbeat != before):
            msg = f"{self._location} is being written by {claim}; wait until it has ended and run this again"
            raise BusyError(msg)
        if alive is False or now - since > self._seconds:
            log.warning("stale_lease_removed", folder=self._location, writer=str(claim))
            self._remove(claim_id)
            return False
        return True

    def _write_claim(self) -> None:
        # Written under another name and renamed, so that nobody reads half a claim. The new name is free, because some
        # stores cannot overwrite in a rename.
        unfinished = f"{self._root}/_{self._claim.claim_id}.json"
        for attempt in range(1, _CLAIM_ATTEMPTS + 1):
            try:
                self._system.create_dir(self._root, recursive=True)
                self._write(unfinished, self._claim.model_dump_json().encode())
                self._system.move(unfinished, self._file(self._claim.claim_id))
                self._claimed = True
                return
            except FileNotFoundError:  # a holder just removed the empty folder or the unfinished file
                if attempt == _CLAIM_ATTEMPTS:
                    raise

    def _remove_leftovers(self) -> None:
        """Removes files of killed writers that are not claims."""
        for info in self._system.get_file_info(fs.FileSelector(self._root)):
            if info.base_name.startswith("_") or info.extension == "beat":
                claim_id = info.base_name.removesuffix(".beat")
                if claim_id != self._claim.claim_id:
                    with contextlib.suppress(OSError):
                        self._system.delete_file(info.path)

    def _withdraw(self) -> None:
        if self._claimed:
            self._claimed = False
            self._remove(self._claim.claim_id)

    def _keep_alive(self) -> None:
        while not self._stop.wait(self._seconds / _HEARTBEATS):
            try:
                self._beat()
            except OSError as error:
                log.warning("lease_heartbeat_failed", folder=self._folder, reason=str(error))

    def _beat(self) -> None:
        self._heartbeat += 1
        self._write(self._file(self._claim.claim_id, "beat"), str(self._heartbeat).encode())
        self._last_heartbeat = time.monotonic()

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
            log.info("lease_not_removed", folder=self._folder, reason=str(error))
        path = local_path(self._folder)
        if path is not None:
            with contextlib.suppress(OSError):  # it holds another writer's claim
                path.rmdir()


def _parse(text: bytes) -> Claim | None:
    try:
        return Claim.model_validate_json(text)
    except ValueError:
        return None
