"""A job as a person runs it, except that it can be slow, watched, and killed between two commits.

    python tests/robustness/night_process.py enrich|ingest --seen FILE --passed FILE [--die POINT:N] [...] -- ARGUMENTS

ARGUMENTS are those of jobs.enrich or jobs.ingest. The analyzer is the tests' fake unless --real is given.
"""

import argparse
import functools
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fakes  # noqa: E402
from pyspark import cloudpickle  # noqa: E402

from faceattr_udf.config import Config  # noqa: E402
from faceattr_udf.results import ImageResult  # noqa: E402
from faceattr_udf.spark import ingestion  # noqa: E402
from faceattr_udf.spark.udf import DEFAULT_PROVIDER, Analyzer, AnalyzerProvider  # noqa: E402
from jobs import enrich, ingest  # noqa: E402

cloudpickle.register_pickle_by_value(fakes)  # workers of Spark do not have the tests' modules


@dataclass(frozen=True)
class Watched:
    """An analyzer that leaves a line per image before it looks, and takes its time."""

    inner: Analyzer
    seen: str
    seconds: float

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        digests = [hashlib.sha256(content).hexdigest() for content in contents if content is not None]
        with Path(self.seen).open("a", encoding="utf-8") as file:
            file.writelines(f"{digest} {os.getpid()}\n" for digest in digests)
        time.sleep(self.seconds)
        return self.inner.analyze(contents)


@dataclass(frozen=True)
class Load:
    """Pickles by its fields."""

    load: Callable[[Config, int, str], Analyzer]
    seen: str
    seconds: float

    def __call__(self, config: Config, threads: int, device: str) -> Watched:
        return Watched(self.load(config, threads, device), self.seen, self.seconds)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=["enrich", "ingest"])
    parser.add_argument("--seen", required=True, help="gets a line per image that is looked at")
    parser.add_argument("--passed", required=True, help="gets a line per point that is passed")
    parser.add_argument("--die", metavar="POINT:N", help="SIGKILL to the process group at the Nth passing of a point")
    parser.add_argument("--slow", type=float, default=0.0, metavar="SECONDS", help="per batch")
    parser.add_argument("--real", action="store_true", help="the product's own analyzer")
    end = sys.argv.index("--")
    options, arguments = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    point, _, nth = (options.die or "").partition(":")
    passed: list[str] = []

    def checkpoint(name: str) -> None:
        passed.append(name)
        with Path(options.passed).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        if name == point and passed.count(name) == int(nth):
            os.killpg(os.getpgid(0), signal.SIGKILL)

    if options.job == "ingest":
        ingestion._FILE_BYTES = 2000  # type: ignore[misc]  # several files and commits from few pictures
        return ingest.main(arguments)
    fake = fakes.provider(Path(os.devnull))
    inner = DEFAULT_PROVIDER if options.real else fake
    provider = AnalyzerProvider(Load(inner.load, options.seen, options.slow), inner.model_version)
    enrich.enrich = functools.partial(enrich.enrich, provider=provider, checkpoint=checkpoint)  # type: ignore[assignment]
    return enrich.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
