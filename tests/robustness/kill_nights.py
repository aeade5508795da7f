"""Nights that are killed again and again, and whether their tables equal those of a night that nothing disturbed.

    python -m tests.robustness.kill_nights --kills 100 --engine sail --seed 0 --json FILE

A round is a night over images of which most have changed since yesterday. It is killed some times, at random moments
or between two commits, each time started again, and at last left alone. Then its tables are compared. A second use
of the same FILE adds to its figures.
"""

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "robustness")]

from fakes import content  # noqa: E402
from process_groups import Job  # noqa: E402

from faceattr_udf.config import Config  # noqa: E402
from faceattr_udf.spark.session import start  # noqa: E402

WAVE_IMAGES = {"sail": 6, "spark": 15}  # the other engine takes seconds for a commit
POINTS = {"leased": 1, "created": 1, "tidied": 1, "begun": 1, "planned": 1, "staged": 3, "faces": 3, "results": 3}
LAST_POINTS = {"deleted": 1, "ended": 1}
"""Passed only by a run that reaches its end."""

SETTINGS = {
    "sail": ["engine.name=sail"],
    "spark": [
        "engine.name=spark",
        "engine.master=local[2]",
        "engine.settings.spark.ui.enabled=false",
        "engine.settings.spark.sql.shuffle.partitions=2",
        "engine.settings.spark.databricks.delta.snapshotPartitions=1",
        "engine.settings.spark.driver.extraJavaOptions=-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        "engine.settings.spark.sql.codegen.wholeStage=false",
        "engine.settings.spark.sql.codegen.factoryMode=NO_CODEGEN",
        "engine.settings.spark.sql.adaptive.enabled=false",
    ],
}


def pictures(count: int, changed: bool) -> list[dict[str, Any]]:
    """Rows of the images table yesterday, or tonight: other contents, some rows gone, some new, some equal."""
    rows = []
    for index in range(count):
        data: bytes | None = content(index % 4, str(index))
        if index % 11 == 3:
            data = content(2, "shared by several")
        elif index % 13 == 5:
            data = b"garbage"
        elif index % 17 == 7:
            data = None
        if changed and index % 3:
            data = content((index + 1) % 4, f"{index} changed")
        if not (index % 10 == 4 if changed else index % 10 == 9):
            digest = sha256(data).hexdigest() if data is not None else None
            rows.append({"image_id": f"i{index:04}", "content": data, "content_sha256": digest, "path": f"/x/{index}"})
    return rows


def write_images(rows: list[dict[str, Any]], folder: Path, name: str = "part") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"image_id": pa.string(), "content": pa.binary(), "content_sha256": pa.string(), "path": pa.string()}
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(kinds)), folder / f"{name}.parquet")


def read(table: Path) -> list[dict[str, Any]]:
    """Rows in a fixed order, without what differs from run to run."""
    rows = [row.asDict(recursive=True) for row in start(Config()).read.format("delta").load(str(table)).collect()]
    rows = [{key: row[key] for key in row if key not in {"run_id", "processed_at"}} for row in rows]
    return sorted(rows, key=lambda row: (row["image_id"], row.get("face_index", 0)))


@dataclass
class Night:
    """A folder with images, output and the traces that runs leave.

    Attributes:
        folder: Everything is below it.
        engine: sail or spark.
        slow: Seconds that the analyzer takes for a batch.
        attempts: Runs so far.
        earlier: Runs that were there before, all completed.
    """

    folder: Path
    engine: str
    slow: float = 0.05
    attempts: int = 0
    earlier: int = 0

    @property
    def wave_images(self) -> int:
        return WAVE_IMAGES[self.engine]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def job(self, *, die: str | None = None, real: bool = False, settings: tuple[str, ...] = ()) -> Job:
        """Starts a run."""
        self.attempts += 1
        arguments = [str(ROOT / "tests" / "robustness" / "night_process.py"), "enrich"]
        arguments += ["--seen", str(self._trace("seen")), "--passed", str(self._trace("passed"))]
        arguments += ["--slow", str(self.slow), *(["--die", die] if die else []), *(["--real"] if real else [])]
        arguments += ["--", "--images", str(self.folder / "images"), "--output", str(self.out)]
        scratch = [f"engine.settings.spark.local.dir={self.folder / 'scratch'}"] if self.engine == "spark" else []
        settings = (f"enrich.wave_images={self.wave_images}", "enrich.delete_missing=true", *settings)
        for setting in (*SETTINGS[self.engine], *scratch, *settings):
            arguments += ["--set", setting]
        return Job(arguments, self._trace("log"))

    def _trace(self, name: str, attempt: int | None = None) -> Path:
        (self.folder / "traces").mkdir(parents=True, exist_ok=True)
        return self.folder / "traces" / f"{name}_{attempt or self.attempts}"

    def lines(self, name: str, attempt: int) -> list[str]:
        path = self._trace(name, attempt)
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def repeated(self) -> list[int]:
        """Per attempt, how many contents were inferred that an earlier attempt, or the same, had inferred already."""
        known: set[str] = set()
        counts = []
        for attempt in range(1, self.attempts + 1):
            digests = [line.split()[0] for line in self.lines("seen", attempt)]
            counts.append(len(digests) - len(set(digests) - known))
            known |= set(digests)
        return counts

    def copy(self, folder: Path) -> "Night":
        """The same elsewhere, with nothing tried yet."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("traces", "scratch"))
        return Night(folder, self.engine, self.slow, earlier=self.earlier + self.attempts)

    def wrongs(self, calm: "Night") -> list[str]:
        """What is not as in a night that nothing disturbed; empty when all is well."""
        found = []
        for name in ("faces", "image_results"):
            mine, right = read(self.out / name), read(calm.out / name)
            if mine != right:
                differing = [row["image_id"] for row in mine if row not in right]
                differing += [row["image_id"] for row in right if row not in mine]
                found.append(f"{name}: {len(mine)} rows instead of {len(right)}; different: {sorted(set(differing))}")
        found += [f"{left} is left" for left in ("_staging", "_lease") if (self.out / left).exists()]
        # Whoever was killed before its row was written has none; all others have theirs, and it says how they ended.
        runs = start(Config()).read.format("delta").load(str(self.out / "runs")).collect()
        states = Counter(row.state for row in runs)
        passed = [self.lines("passed", attempt) for attempt in range(1, self.attempts + 1)]
        begun, ended = (sum(point in points for points in passed) for point in ("begun", "ended"))
        tidied = sum("tidied" in points for points in passed)
        before = sum(row.state == "completed" for row in runs) - ended
        if not begun <= len(runs) - self.earlier <= tidied:
            found.append(f"{len(runs) - self.earlier} rows of {begun} to {tidied} runs")
        # A run may be killed after it has recorded its end and before it says so here.
        if set(states) - {"completed", "interrupted"} or before not in (self.earlier, self.earlier + 1):
            found.append(f"states {dict(states)}, of {begun} runs {ended} ended")
        return found


@dataclass
class Figures:
    """What many kills came to."""

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    wrong: list[str] = field(default_factory=list)
    most_repeated: int = 0
    interrupted_runs: int = 0


def make(folder: Path, engine: str, images: int = 60) -> tuple[Night, Night]:
    """Yesterday's night, with tonight's images already there, and tonight as it goes when nothing happens.

    Both are made by the embedded engine: engines write equal tables, and the other is slow to start.
    """
    yesterday = Night(folder / "yesterday", "sail", 0.0)
    write_images(pictures(images, changed=False), yesterday.folder / "images")
    _calmly(yesterday)
    write_images(pictures(images, changed=True), yesterday.folder / "images")
    calm = yesterday.copy(folder / "calm")
    _calmly(calm)
    return Night(yesterday.folder, engine, earlier=1), calm


def _calmly(night: Night) -> None:
    job = night.job()
    if job.wait():
        raise RuntimeError(job.text())


def kill(night: Night, chance: random.Random, seconds: float) -> str | None:
    """Runs a night and kills it; how, or None when it had ended before.

    Args:
        night: The night.
        chance: Chooses.
        seconds: How long an undisturbed run takes from its start.
    """
    if chance.random() < 0.4:
        points = LAST_POINTS if chance.random() < 0.1 else POINTS
        point = chance.choice(list(points))
        job = night.job(die=f"{point}:{chance.randint(1, points[point])}")
        return None if job.wait() == 0 else f"at {point}"
    who = "all"
    if night.engine == "spark":
        who = chance.choices(["all", "driver", "jvm", "worker"], [5, 2, 1, 2])[0]
    job = night.job()
    until = time.monotonic() + chance.uniform(0.3, 0.7 * seconds)
    while job.running and time.monotonic() < until:
        time.sleep(0.005)
    killed = False
    while job.running and not killed:  # a worker is there only while images are inferred
        killed = job.kill(who)
        time.sleep(0.01)
    if not killed:
        return None
    code = job.wait()
    if who == "worker":
        return who if code == 0 else f"{who}, not survived"
    return who


def rounds(folder: Path, engine: str, kills: int, seed: int, minutes: float, per_round: int = 8) -> Figures:
    """Kills nights until there have been enough kills, or no time is left to begin another round."""
    chance, figures = random.Random(seed), Figures()  # noqa: S311
    until = time.monotonic() + 60 * minutes
    yesterday, calm = make(folder, engine)
    started = time.monotonic()
    _calmly(yesterday.copy(folder / "measured"))
    seconds = time.monotonic() - started
    while sum(figures.kills.values()) < kills and time.monotonic() < until:
        night = yesterday.copy(folder / f"round_{figures.rounds}")
        for _ in range(min(per_round, kills - sum(figures.kills.values()))):
            how = kill(night, chance, seconds)
            if how is None:
                break
            figures.kills[how] += 1
            if "not survived" in how:
                figures.wrong.append(how)
            if how == "worker" or time.monotonic() > until:
                break  # whoever survives has done it all
        _calmly(night)
        figures.rounds += 1
        wrong = night.wrongs(calm)
        repeated = max(night.repeated())
        if repeated > night.wave_images:
            wrong.append(f"{repeated} contents were inferred again after one kill")
        figures.wrong += [f"round {figures.rounds}: {text}" for text in wrong]
        figures.most_repeated = max(figures.most_repeated, repeated)
        runs = start(Config()).read.format("delta").load(str(night.out / "runs"))
        figures.interrupted_runs += runs.where("state = 'interrupted'").count()
        if not wrong:
            shutil.rmtree(night.folder)
        sys.stderr.write(f"round {figures.rounds}: {sum(figures.kills.values())} kills, {wrong or 'all equal'}\n")
    return figures


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = names[0] if names else platform.machine()
    return {"cores": os.cpu_count(), "memory_gib": round(memory), "cpu": cpu}


def _add(path: Path, engine: str, seed: int, figures: Figures) -> None:
    whole: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    whole.setdefault("engine", engine)
    whole["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
    whole["machine"] = _machine()
    whole["wave_images"] = WAVE_IMAGES[engine]
    pieces = whole.setdefault("pieces", [])
    pieces.append({"seed": seed, **{name: getattr(figures, name) for name in figures.__dataclass_fields__}})
    totals: Counter[str] = Counter()
    for piece in pieces:
        totals.update(piece["kills"])
    whole["kills"] = sum(totals.values())
    whole["kills_by_kind"] = dict(sorted(totals.items()))
    whole["rounds"] = sum(piece["rounds"] for piece in pieces)
    whole["rounds_that_differ"] = sum(bool(piece["wrong"]) for piece in pieces)
    whole["most_images_inferred_again_after_a_kill"] = max(piece["most_repeated"] for piece in pieces)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--engine", choices=list(SETTINGS), default="sail")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="after them only the round at work is finished")
    parser.add_argument("--json", type=Path, metavar="FILE", required=True)
    parser.add_argument(
        "--folder", type=Path, help="where the nights are; the default is one that is removed at the end"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = rounds(
            options.folder or Path(temporary), options.engine, options.kills, options.seed, options.minutes
        )
    _add(options.json, options.engine, options.seed, figures)
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
