"""Puts small faults into the code, one at a time, and says which test notices each.

    python tests/tools/mutate.py                                  # all of mutations.toml, two at a time
    python tests/tools/mutate.py --only consent --only lease      # those whose description has one of these words
    python tests/tools/mutate.py --table tests/tools/mutations.md # and write the table

Every fault goes into a copy of the tracked files, where its tests run. Exit code 1: a fault was not noticed, or its
text does not occur exactly once any more. Run `make test` first: a test that fails without a fault notices nothing.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[2]
FAULTS = Path(__file__).with_name("mutations.toml")
NOTICED = re.compile(r"^(?:FAILED|ERROR) (\S+?::[^\s\[]+)", re.MULTILINE)


@dataclass(frozen=True)
class Mutation:
    """A fault, where it goes, and the tests that must notice it."""

    fault: str
    file: str
    old: str
    new: str
    tests: str
    marker: str = "not spark and not slow"

    def apply(self, folder: Path) -> str:
        """Writes the fault into a copy; returns the text that was there."""
        path = folder / self.file
        before = path.read_text(encoding="utf-8")
        if before.count(self.old) != 1:
            msg = f"{self.file}: the text of {self.fault!r} occurs {before.count(self.old)} times instead of once"
            raise ValueError(msg)
        path.write_text(before.replace(self.old, self.new), encoding="utf-8")
        return before


def copy_of_the_repository(folder: Path) -> Path:
    """Copies the tracked files, and links what tests find beside them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)  # noqa: S607
    copied = folder / "repository"
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            target = copied / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    for beside in ("demo", ".cache"):  # fetched photographs need not be fetched again
        if (ROOT / beside).exists():
            (copied / beside).symlink_to(ROOT / beside)
    return copied


def noticed_by(mutation: Mutation, folder: Path) -> str | None:
    """Returns the first test that fails with the fault, None where all pass.

    Raises:
        ValueError: The fault's text is not there, or its tests cannot be run.
    """
    before = mutation.apply(folder)
    try:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["-o", "timeout=60", "-m", mutation.marker, *shlex.split(mutation.tests)]
        environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        finished = subprocess.run(  # noqa: S603 - this interpreter
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    finally:
        (folder / mutation.file).write_text(before, encoding="utf-8")
    if finished.returncode == 0:
        return None
    found = NOTICED.search(finished.stdout)
    if finished.returncode != 1 or found is None:
        msg = f"the tests of {mutation.fault!r} cannot be run:\n{finished.stdout[-2000:]}{finished.stderr[-1000:]}"
        raise ValueError(msg)
    return found[1]


def table(outcomes: dict[Mutation, str | None]) -> str:
    """A Markdown table of faults and the tests that notice them."""
    lines = [
        "# Faults put into the code one at a time, and the tests that notice them",
        "",
        "Written by `python tests/tools/mutate.py --table tests/tools/mutations.md` from "
        "[mutations.toml](mutations.toml).",
        "",
        f"{sum(test is not None for test in outcomes.values())} of {len(outcomes)} are noticed; "
        f"{sum(mutation.file.startswith('faceattr_udf/spark/') for mutation in outcomes)} are in faceattr_udf/spark.",
        "",
        "| fault | in | noticed by |",
        "|---|---|---|",
    ]
    for mutation, test in outcomes.items():
        where = mutation.file.removeprefix("faceattr_udf/")
        lines.append(f"| {mutation.fault} | `{where}` | {f'`{test}`' if test else '**nobody**'} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Tries the faults; 1 when one is not noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="WORD", help="faults whose description or file has it")
    parser.add_argument("--jobs", type=int, default=2, help="copies that are tried side by side")
    parser.add_argument("--table", type=Path, metavar="FILE", help="gets the table")
    arguments = parser.parse_args(argv)
    mutations = [Mutation(**entry) for entry in tomllib.loads(FAULTS.read_text(encoding="utf-8"))["mutation"]]
    if arguments.only:
        mutations = [m for m in mutations if any(word in m.fault or word in m.file for word in arguments.only)]
    outcomes: dict[Mutation, str | None] = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        copies: Queue[Path] = Queue()
        for number in range(arguments.jobs):
            copies.put(copy_of_the_repository(Path(folder) / str(number)))

        def attempt(mutation: Mutation) -> str | None:
            copy = copies.get()
            try:
                return noticed_by(mutation, copy)
            except ValueError as error:
                print(error, file=sys.stderr)
                return None
            finally:
                copies.put(copy)

        for mutation, test in zip(mutations, pool.map(attempt, mutations), strict=True):
            outcomes[mutation] = test
            print(f"{'noticed' if test else 'NOT NOTICED':12} {mutation.fault}: {test or '-'}", flush=True)
    if arguments.table:
        arguments.table.write_text(table(outcomes), encoding="utf-8")
    print(f"{sum(map(bool, outcomes.values()))} of {len(outcomes)} noticed")
    return 0 if all(outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
