"""Kills erasures repeatedly, runs them again, and searches all files.

    python tests/robustness/kill_erasures.py --kills 100 --engine sail --seed 0 --json FILE

A round erases images from tables with two nights. The erasure is killed several times, at random moments or after a
step, and run again each time; now and then a night runs in between, in which nothing of these images may be inferred.
The last attempt is left alone: then no file may hold an id, and all other rows must be as before.
"""

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

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "robustness")]

from fakes import content  # noqa: E402
from file_search import files_that_hold  # noqa: E402
from kill_runs import SETTINGS, describe_machine, parsed_arguments, read_rows  # noqa: E402
from process_groups import JobProcess, Target  # noqa: E402

from faceattr_udf.config import Config  # noqa: E402
from faceattr_udf.spark.session import start  # noqa: E402

SCHEMA = "image_id string, content binary, content_sha256 string, path string"
KILL_STEPS = {
    "leased": 1,
    "requested": 1,
    "tombstoned": 1,
    "results": 1,
    "faces": 1,
    "images": 1,
    "staging": 1,
    "marts": 1,
    "vacuumed": 3,
    "log": 3,
    "searched": 1,
}
"""Step -> how often every erasure reaches it."""


def write_images(folder: Path, count: int, version: str) -> None:
    """Writes an images table in which every third image changes with the version, and some share their content."""
    rows = []
    for number in range(count):
        name = f"photo-{number:04}"
        data = content(1 + number % 2, f"{name} {version if number % 3 == 0 else ''}")
        if number % 10 == 9:
            data = content(1, f"shared by two {number // 20}")
        rows.append((name, data, sha256(data).hexdigest(), f"/x/{name}.jpg"))
    frame = start(Config()).createDataFrame(rows, SCHEMA)
    frame.write.format("delta").mode("overwrite").save(str(folder / "images"))


@dataclass
class ErasureFolder:
    """A folder with an images table, the output of two nights, and the logs of jobs.

    Attributes:
        folder: Contains all of it.
        engine: sail or spark.
        ids: The images to erase.
        attempts: Jobs started so far.
    """

    folder: Path
    engine: str
    ids: tuple[str, ...] = ()
    attempts: int = 0

    def start_job(self, job: str, *arguments: str, kill_at: str | None = None) -> JobProcess:
        """Starts enrich or erase in a process of its own."""
        self.attempts += 1
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        words = [str(ROOT / "tests" / "robustness" / "run_process.py"), job]
        words += [
            "--inferred",
            str(logs / f"inferred_{self.attempts}"),
            "--steps",
            str(logs / f"steps_{self.attempts}"),
        ]
        words += ["--kill-at", kill_at] if kill_at else []
        words += ["--", "--images", str(self.folder / "images"), "--output", str(self.folder / "out"), *arguments]
        settings = [*SETTINGS[self.engine], f"privacy.key_file={self.folder / 'erasure.key'}"]
        for setting in settings:
            words += ["--set", setting]
        return JobProcess(words, logs / f"output_{self.attempts}")

    def start_erasure(self, kill_at: str | None = None) -> JobProcess:
        """Starts an erasure of `ids`."""
        file = self.folder / "ids.txt"
        file.write_text("".join(f"{one}\n" for one in self.ids), encoding="utf-8")
        return self.start_job("erase", "--image-ids", str(file), kill_at=kill_at)

    def night(self) -> list[str]:
        """Runs a night; returns the SHA-256 of what it inferred."""
        job = self.start_job("enrich")
        if job.wait():
            raise RuntimeError(job.output())
        log = self.folder / "logs" / f"inferred_{self.attempts}"
        return [line.split()[0] for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        places = {name: self.folder / "out" / name for name in ("faces", "image_results")}
        return {name: read_rows(place) for name, place in places.items()} | {
            "images": read_rows(self.folder / "images")
        }

    def with_copies(self) -> dict[str, str]:
        """Returns the images of `ids` and those with the same content -> the SHA-256."""
        images = {row["image_id"]: row["content_sha256"] for row in read_rows(self.folder / "images")}
        contents = {images[one] for one in self.ids}
        return {one: digest for one, digest in images.items() if digest in contents}


def prepare(folder: Path, engine: str, images: int = 40) -> ErasureFolder:
    """Returns tables with two nights; the embedded engine makes them, because engines write equal tables."""
    made = ErasureFolder(folder, "sail")
    made.folder.mkdir(parents=True)
    for version in ("first", "second"):
        write_images(folder, images, version)
        made.night()
    return ErasureFolder(folder, engine)


def kill_one(erasing: ErasureFolder, chance: random.Random, seconds: float) -> str | None:
    """Starts an erasure and kills it; returns how, or None if it ended first."""
    if chance.random() < 0.6:
        step = chance.choice(list(KILL_STEPS))
        code = erasing.start_erasure(f"{step}:{chance.randint(1, KILL_STEPS[step])}").wait()
        return None if code == 0 else f"after {step}"
    target: Target = chance.choice(["all", "driver", "jvm"]) if erasing.engine == "spark" else "all"
    job = erasing.start_erasure()
    deadline = time.monotonic() + chance.uniform(0.3, 1.0) * seconds
    while job.running and time.monotonic() < deadline:
        time.sleep(0.005)
    killed = job.kill(target)
    code = job.wait()
    return f"at a random moment ({target})" if killed and code else None


@dataclass
class KillResults:
    """Results of one call; the fields are keys of the JSON file.

    Attributes:
        kills: Kind of kill -> how often.
        rounds: Erasures that were killed, then completed and compared.
        wrong: Everything that was not as expected.
    """

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    wrong: list[str] = field(default_factory=list)


def play_round(
    erasing: ErasureFolder, chance: random.Random, kills: int, seconds: float
) -> tuple[list[str], list[str]]:
    """Kills an erasure some times and completes it; returns the kinds of kills, and what is wrong."""
    erasing.ids = tuple(chance.sample([row["image_id"] for row in read_rows(erasing.folder / "images")], 5))
    gone = erasing.with_copies()
    before = {name: [row for row in rows if row["image_id"] not in gone] for name, rows in erasing.rows().items()}
    done: list[str] = []
    wrong: list[str] = []
    for _ in range(kills):
        how = kill_one(erasing, chance, seconds)
        if how is None:
            break
        done.append(how)
        if chance.random() < 0.15 and set(erasing.night()) & set(gone.values()):
            wrong.append("a night inferred an erased content")
    job = erasing.start_erasure()
    if job.wait():
        wrong.append(f"the last attempt failed: {job.output()[-300:]}")
    held = files_that_hold([erasing.folder / "out", erasing.folder / "images"], [*gone, *gone.values()])
    wrong += [f"{path} holds an erased id" for path in held]
    after = erasing.rows()
    wrong += [f"{name} differs" for name in before if after[name] != before[name]]
    wrong += [f"{name} is left" for name in ("_staging", "_lease") if (erasing.folder / "out" / name).exists()]
    wrong += [f"{path} is left" for path in (erasing.folder / "out" / "_erasure").glob("*request*")]
    return done, wrong


def kill_repeatedly(folder: Path, engine: str, kills: int, seed: int, minutes: float) -> KillResults:
    """Plays rounds until there are enough kills or no time is left for another round."""
    chance, results = random.Random(seed), KillResults()  # noqa: S311
    deadline = time.monotonic() + 60 * minutes
    first = prepare(folder / "first", engine)
    seconds = 4.0 if engine == "sail" else 60.0
    while results.kills.total() < kills and time.monotonic() < deadline:
        place = folder / f"round_{results.rounds}"
        shutil.copytree(first.folder, place, ignore=shutil.ignore_patterns("logs"))
        started = time.monotonic()
        erasing = ErasureFolder(place, engine)
        n_kills = min(chance.randint(1, 5), kills - results.kills.total())
        done, wrong = play_round(erasing, chance, n_kills, seconds)
        seconds = max(2.0, (time.monotonic() - started) / max(1, erasing.attempts))
        results.kills.update(done)
        results.rounds += 1
        results.wrong += [f"round {results.rounds}: {text}" for text in wrong]
        if not wrong:
            shutil.rmtree(place)
        sys.stderr.write(f"round {results.rounds}: {results.kills.total()} kills, {wrong or 'all right'}\n")
    return results


def main() -> int:
    options = parsed_arguments(__doc__, "write the results to this file")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        results = kill_repeatedly(folder, options.engine, options.kills, options.seed, options.minutes)
    whole = {"engine": options.engine, "seed": options.seed, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    whole |= {"machine": describe_machine(), "n_kills": results.kills.total(), **vars(results)}
    options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return 1 if results.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
