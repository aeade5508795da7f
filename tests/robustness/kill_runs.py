"""Kills enrichment runs repeatedly and compares their tables with those of a run that was not disturbed.

    python tests/robustness/kill_runs.py --kills 100 --engine sail --seed 0 --json FILE

A round enriches a table in which most images have changed since the last finished run. The run is killed several times,
at random moments or between two commits, and restarted each time; the last attempt is left alone and its tables are
compared. Running the command again with the same FILE adds to its results.
"""

import argparse
import json
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

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "robustness")]

from fakes import content  # noqa: E402
from process_groups import JobProcess, Target  # noqa: E402

from faceattr_udf.benchmarks.machine import describe  # noqa: E402
from faceattr_udf.config import Config  # noqa: E402
from faceattr_udf.spark.session import start  # noqa: E402

WAVE_IMAGES = {"sail": 6, "spark": 15}  # a commit takes seconds on Spark
KILL_STEPS = {"leased": 1, "created": 1, "tidied": 1, "begun": 1, "planned": 1, "staged": 3, "faces": 3, "results": 3}
"""Step -> how often every run reaches it."""
FINAL_KILL_STEPS = {"deleted": 1, "ended": 1}
"""Steps that only a run that finishes its waves reaches."""

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


def image_rows(count: int, changed: bool) -> list[dict[str, Any]]:
    """Returns rows of an images table: the first version, or one with changed contents and with rows added and removed.

    Some images share their content, some are corrupt and some have no content.
    """
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
    types = {"image_id": pa.string(), "content": pa.binary(), "content_sha256": pa.string(), "path": pa.string()}
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(types)), folder / f"{name}.parquet")


def read_rows(table: Path) -> list[dict[str, Any]]:
    """Returns the rows in a fixed order, without the columns that differ from run to run."""
    rows = [row.asDict(recursive=True) for row in start(Config()).read.format("delta").load(str(table)).collect()]
    rows = [{key: row[key] for key in row if key not in {"run_id", "processed_at"}} for row in rows]
    return sorted(rows, key=lambda row: (row["image_id"], row.get("face_index", 0)))


@dataclass
class RunFolder:
    """A folder with an images table, the output of runs, and their logs.

    Attributes:
        folder: Contains all of it.
        engine: sail or spark.
        batch_seconds: Seconds that the analyzer waits before every batch.
        attempts: Runs started so far.
        earlier_runs: Completed runs in the output before the first attempt.
    """

    folder: Path
    engine: str
    batch_seconds: float = 0.05
    attempts: int = 0
    earlier_runs: int = 0

    @property
    def wave_images(self) -> int:
        return WAVE_IMAGES[self.engine]

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def pause_file(self) -> Path:
        """The file that makes every analyzer of this folder wait while it exists."""
        return self.folder / "pause"

    def start_run(self, *, kill_at: str | None = None, settings: tuple[str, ...] = ()) -> JobProcess:
        """Starts a run of the enrichment job in a process."""
        self.attempts += 1
        arguments = [str(ROOT / "tests" / "robustness" / "run_process.py"), "enrich"]
        arguments += ["--inferred", str(self._log("inferred")), "--steps", str(self._log("steps"))]
        arguments += ["--pause-file", str(self.pause_file)]
        arguments += ["--batch-seconds", str(self.batch_seconds), *(["--kill-at", kill_at] if kill_at else [])]
        arguments += ["--", "--images", str(self.folder / "images"), "--output", str(self.output)]
        scratch = [f"engine.settings.spark.local.dir={self.folder / 'scratch'}"] if self.engine == "spark" else []
        settings = (f"enrich.wave_images={self.wave_images}", "enrich.delete_missing=true", *settings)
        for setting in (*SETTINGS[self.engine], *scratch, *settings):
            arguments += ["--set", setting]
        return JobProcess(arguments, self._log("output"))

    def run_to_completion(self) -> None:
        run = self.start_run()
        if run.wait():
            raise RuntimeError(run.output())

    def _log(self, name: str, attempt: int | None = None) -> Path:
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        return self.folder / "logs" / f"{name}_{attempt or self.attempts}"

    def _log_lines(self, name: str, attempt: int) -> list[str]:
        path = self._log(name, attempt)
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def inferred(self, attempt: int) -> list[tuple[str, int]]:
        """Returns the SHA-256 of every content that an attempt inferred, and the process that did it."""
        return [(digest, int(pid)) for digest, pid in map(str.split, self._log_lines("inferred", attempt))]

    def steps(self, attempt: int) -> list[str]:
        """Returns the steps that an attempt reached."""
        return self._log_lines("steps", attempt)

    def repeated_inferences(self) -> list[int]:
        """Returns for every attempt how many contents it inferred that it or an earlier one had inferred already."""
        known: set[str] = set()
        counts = []
        for attempt in range(1, self.attempts + 1):
            digests = [digest for digest, _ in self.inferred(attempt)]
            counts.append(len(digests) - len(set(digests) - known))
            known |= set(digests)
        return counts

    def copy(self, folder: Path) -> "RunFolder":
        """Copies images and output, without the logs of the attempts."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("logs", "scratch"))
        return RunFolder(folder, self.engine, self.batch_seconds, earlier_runs=self.earlier_runs + self.attempts)

    def differences(self, expected: "RunFolder") -> list[str]:
        """Returns how the output differs from that of an undisturbed run; empty if it is right."""
        found = []
        for name in ("faces", "image_results"):
            actual_rows, expected_rows = read_rows(self.output / name), read_rows(expected.output / name)
            if actual_rows != expected_rows:
                differing = [row["image_id"] for row in actual_rows if row not in expected_rows]
                differing += [row["image_id"] for row in expected_rows if row not in actual_rows]
                counts = f"{len(actual_rows)} rows instead of {len(expected_rows)}"
                found.append(f"{name}: {counts}; different: {sorted(set(differing))}")
        found += [f"{name} is left" for name in ("_staging", "_lease") if (self.output / name).exists()]
        return found + self._wrong_states()

    def _wrong_states(self) -> list[str]:
        """Returns what is wrong in the table of runs: a run that was killed before it wrote its row has none."""
        found = []
        runs = start(Config()).read.format("delta").load(str(self.output / "runs")).collect()
        states = Counter(row.state for row in runs)
        reached = [self.steps(attempt) for attempt in range(1, self.attempts + 1)]
        n_tidied, n_begun, n_ended = (sum(step in steps for steps in reached) for step in ("tidied", "begun", "ended"))
        if not n_begun <= len(runs) - self.earlier_runs <= n_tidied:
            found.append(f"{len(runs) - self.earlier_runs} rows of {n_begun} to {n_tidied} runs")
        # A run may be killed after it has recorded its end and before it has logged the step.
        n_earlier = states["completed"] - n_ended
        if set(states) - {"completed", "interrupted"} or n_earlier not in (self.earlier_runs, self.earlier_runs + 1):
            found.append(f"states {dict(states)}, of {n_begun} runs {n_ended} ended")
        return found


def prepare_runs(folder: Path, engine: str, images: int = 60) -> tuple[RunFolder, RunFolder]:
    """Returns a finished run whose images have changed since, and the expected output of the run after it.

    The embedded engine makes both, because engines write equal tables and Spark is slow to start.

    Args:
        folder: Where both are written.
        engine: The engine of the first folder's further runs.
        images: Number of images in the table, about.
    """
    first = RunFolder(folder / "first", "sail", 0.0)
    write_images(image_rows(images, changed=False), first.folder / "images")
    first.run_to_completion()
    write_images(image_rows(images, changed=True), first.folder / "images")
    expected = first.copy(folder / "expected")
    expected.run_to_completion()
    return RunFolder(first.folder, engine, earlier_runs=1), expected


def run_and_kill(runs: RunFolder, chance: random.Random, run_seconds: float) -> str | None:
    """Starts a run and kills it.

    Args:
        runs: Where it runs.
        chance: Source of randomness.
        run_seconds: Seconds that an undisturbed run takes from its start.

    Returns:
        How the run was killed; None if it ended first.
    """
    if chance.random() < 0.4:
        steps = FINAL_KILL_STEPS if chance.random() < 0.1 else KILL_STEPS
        step = chance.choice(list(steps))
        run = runs.start_run(kill_at=f"{step}:{chance.randint(1, steps[step])}")
        return None if run.wait() == 0 else f"at {step}"
    target: Target = "all"
    if runs.engine == "spark":
        targets: list[Target] = ["all", "driver", "jvm", "worker"]
        target = chance.choices(targets, [5, 2, 1, 2])[0]
    run = runs.start_run()
    deadline = time.monotonic() + chance.uniform(0.3, 0.7 * run_seconds)
    while run.running and time.monotonic() < deadline:
        time.sleep(0.005)
    killed = False
    while run.running and not killed:  # a worker exists only while images are inferred
        killed = run.kill(target)
        time.sleep(0.01)
    if not killed:
        return None
    code = run.wait()
    if target == "worker":
        return target if code == 0 else f"{target}, not survived"
    return target


@dataclass
class KillResults:
    """Results of one call of the command; the fields are keys of the JSON file.

    Attributes:
        kills: Kind of kill -> how often.
        rounds: Runs that were killed, then finished and compared.
        wrong: Everything that was not as expected.
        most_repeated: Largest number of images that one attempt inferred again.
        interrupted_runs: Rows of `runs` in the state interrupted.
    """

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    wrong: list[str] = field(default_factory=list)
    most_repeated: int = 0
    interrupted_runs: int = 0


def kill_repeatedly(
    folder: Path, engine: str, kills: int, seed: int, minutes: float, kills_per_round: int = 8
) -> KillResults:
    """Plays rounds until there are enough kills or no time is left for another round."""
    chance, results = random.Random(seed), KillResults()  # noqa: S311
    deadline = time.monotonic() + 60 * minutes
    first, expected = prepare_runs(folder, engine)
    started = time.monotonic()
    first.copy(folder / "timed").run_to_completion()
    run_seconds = time.monotonic() - started
    while results.kills.total() < kills and time.monotonic() < deadline:
        runs = first.copy(folder / f"round_{results.rounds}")
        for _ in range(min(kills_per_round, kills - results.kills.total())):
            how = run_and_kill(runs, chance, run_seconds)
            if how is None:
                break
            results.kills[how] += 1
            if "not survived" in how:
                results.wrong.append(how)
            if how == "worker" or time.monotonic() > deadline:
                break  # a run that survives has finished the round's work
        runs.run_to_completion()
        results.rounds += 1
        wrong = runs.differences(expected)
        repeated = max(runs.repeated_inferences())
        if repeated > 2 * runs.wave_images:
            wrong.append(f"{repeated} contents were inferred again after one kill")
        results.wrong += [f"round {results.rounds}: {text}" for text in wrong]
        results.most_repeated = max(results.most_repeated, repeated)
        run_rows = start(Config()).read.format("delta").load(str(runs.output / "runs"))
        results.interrupted_runs += run_rows.where("state = 'interrupted'").count()
        if not wrong:
            shutil.rmtree(runs.folder)
        sys.stderr.write(f"round {results.rounds}: {results.kills.total()} kills, {wrong or 'all equal'}\n")
    return results


def describe_machine() -> dict[str, Any]:
    machine = describe()
    memory_gib = round(psutil.virtual_memory().total / 2**30)
    return {"cores": machine["cores"], "memory_gib": memory_gib, "cpu": machine["processor"]}


def add_to_file(path: Path, engine: str, seed: int, results: KillResults) -> None:
    """Appends results to a JSON file and updates its totals."""
    whole: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    whole.setdefault("engine", engine)
    whole["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
    whole["machine"] = describe_machine()
    whole["wave_images"] = WAVE_IMAGES[engine]
    pieces = whole.setdefault("pieces", [])
    pieces.append({"seed": seed, **vars(results)})
    totals: Counter[str] = Counter()
    for piece in pieces:
        totals.update(piece["kills"])
    whole["kills"] = totals.total()
    whole["kills_by_kind"] = dict(sorted(totals.items()))
    whole["rounds"] = sum(piece["rounds"] for piece in pieces)
    whole["rounds_that_differ"] = sum(bool(piece["wrong"]) for piece in pieces)
    whole["most_images_inferred_again_after_a_kill"] = max(piece["most_repeated"] for piece in pieces)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def parsed_arguments(description: str | None, json_help: str) -> argparse.Namespace:
    """Returns the arguments of a tool that kills jobs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--engine", choices=list(SETTINGS), default="sail")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="start no new round after this time")
    parser.add_argument("--json", type=Path, metavar="FILE", required=True, help=json_help)
    parser.add_argument("--folder", type=Path, help="keep images, tables and logs here (default: a temporary folder)")
    return parser.parse_args()


def main() -> int:
    options = parsed_arguments(__doc__, "add the results to this file")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        results = kill_repeatedly(folder, options.engine, options.kills, options.seed, options.minutes)
    add_to_file(options.json, options.engine, options.seed, results)
    return 1 if results.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
