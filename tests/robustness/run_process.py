"""Runs a job as a user would, but slowed down, monitored, and killed between two commits.

    python tests/robustness/run_process.py JOB --inferred FILE --steps FILE [--kill-at STEP:N] -- ARGUMENTS

JOB is enrich, erase or ingest, and ARGUMENTS are those of `faceattr JOB`. The tests' fake replaces the analyzer.
"""

import argparse
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fakes  # noqa: E402
from pyspark import cloudpickle  # noqa: E402

from faceattr_udf.cli import enrich, erase, ingest  # noqa: E402
from faceattr_udf.config import Config  # noqa: E402
from faceattr_udf.results import ImageResult  # noqa: E402
from faceattr_udf.spark import enrichment, erasure, ingestion  # noqa: E402
from faceattr_udf.spark.runs import Run  # noqa: E402
from faceattr_udf.spark.udf import Analyzer, AnalyzerProvider  # noqa: E402

cloudpickle.register_pickle_by_value(fakes)  # Spark's workers cannot import the tests' modules


@dataclass(frozen=True)
class MonitoredAnalyzer:
    """Writes one line per image before it is analyzed, then waits: some seconds, and while a file exists."""

    inner: Analyzer
    log: str
    seconds: float
    pause_file: str | None

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        digests = [hashlib.sha256(content).hexdigest() for content in contents if content is not None]
        with Path(self.log).open("a", encoding="utf-8") as file:
            file.writelines(f"{digest} {os.getpid()}\n" for digest in digests)
        time.sleep(self.seconds)
        while self.pause_file and Path(self.pause_file).exists():
            time.sleep(0.05)
        return self.inner.analyze(contents)


@dataclass(frozen=True)
class MonitoredLoader:
    """Loads a `MonitoredAnalyzer`; a dataclass, so that it can be pickled."""

    load: Callable[[Config, int, str], Analyzer]
    log: str
    seconds: float
    pause_file: str | None

    def __call__(self, config: Config, threads: int, device: str) -> MonitoredAnalyzer:
        return MonitoredAnalyzer(self.load(config, threads, device), self.log, self.seconds, self.pause_file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=["enrich", "erase", "ingest"])
    parser.add_argument("--inferred", required=True, metavar="FILE", help="gets one line per image that is inferred")
    parser.add_argument("--steps", required=True, metavar="FILE", help="gets one line per step that is reached")
    parser.add_argument("--kill-at", metavar="STEP:N", help="kill the process group when a step is reached N times")
    parser.add_argument("--batch-seconds", type=float, default=0.0, metavar="SECONDS", help="wait before every batch")
    parser.add_argument("--pause-file", metavar="FILE", help="wait in every batch while FILE exists")
    separator = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, arguments = parser.parse_args(sys.argv[1:separator]), sys.argv[separator + 1 :]
    kill_step, _, nth = (options.kill_at or "").partition(":")
    reached: list[str] = []

    def on_step(step: str) -> None:
        reached.append(step)
        with Path(options.steps).open("a", encoding="utf-8") as file:
            file.write(f"{step}\n")
        if step == kill_step and reached.count(step) == int(nth):
            os.killpg(os.getpgid(0), signal.SIGKILL)

    if options.job == "ingest":
        ingestion._FILE_BYTES = 2000  # type: ignore[misc]  # several files and commits from a few images
        return ingest.main(arguments)
    if options.job == "erase":
        erasure.erase = partial(erasure.erase, on_step=on_step)
        return erase.main(arguments)
    fake = fakes.provider(Path(os.devnull))
    loader = MonitoredLoader(fake.load, options.inferred, options.batch_seconds, options.pause_file)
    provider = AnalyzerProvider(loader, fake.model_version)

    def observed_enrich(*arguments: Any, progress: Any = None) -> Run:
        return enrichment.EnrichmentRun(*arguments, provider=provider, on_step=on_step).execute(progress)

    enrichment.enrich = observed_enrich  # type: ignore[assignment]
    return enrich.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
