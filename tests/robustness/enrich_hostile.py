"""Runs jobs.enrich over a table of hostile images and checks that nothing fails, disappears or spoils its neighbours.

    python tests/robustness/enrich_hostile.py --engine sail|spark --images 2000 --seed 0 --json FILE [--set ...]

The job must end with 0 and write one row of image_results per image, with a message wherever the status is not ok or
no_face; then it runs once more over a table of the readable images alone, which must get the same rows. Exit code 1
says what broke, with the index that makes it again.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from hostile_encodings import SECRET
from hostile_images import HostileImage, HostileImages, batches, pictures
from watching import PHOTOS, TOLERANCE, difference, photographs, quiet_stderr, report, resident_mib

from faceattr_udf.benchmarks.memory import watch_workers
from faceattr_udf.config import Config
from faceattr_udf.errors import FaceattrError
from faceattr_udf.spark.session import start
from jobs import enrich

ENGINES: Final = {"sail": ("engine.name=sail",), "spark": ("engine.name=spark", "engine.master=local[2]")}
READ: Final = ("ok", "no_face")
_OF_THE_RUN: Final = {"run_id", "processed_at"}
Rows = dict[tuple[str, int], dict[str, Any]]


class Job:
    """The job on one engine, in a folder of its own."""

    def __init__(self, settings: Sequence[str], folder: Path) -> None:
        self._settings, self._folder = settings, folder

    def run(self, name: str, images: Mapping[str, HostileImage]) -> int:
        """Writes a table of images and enriches it; the job's exit code."""
        table = self._folder / name / "images"
        table.mkdir(parents=True)
        contents = pa.array([image.content for image in images.values()], pa.binary())
        columns = {"image_id": pa.array(list(images), pa.string()), "content": contents}
        pq.write_table(pa.table(columns), table / "part-0.parquet", row_group_size=100, use_dictionary=False)
        chosen = [word for setting in self._settings for word in ("--set", setting)]
        return enrich.main(["--images", str(table), "--output", str(self._folder / name), *chosen])

    def rows(self, name: str, table: str) -> Rows:
        """A table's rows by image and face, without what differs from run to run."""
        frame = start(Config.load(None, self._settings)).read.format("delta").load(str(self._folder / name / table))
        rows = [row.asDict(recursive=True) for row in frame.collect()]
        return {
            (row["image_id"], row.get("face_index", 0)): {k: v for k, v in row.items() if k not in _OF_THE_RUN}
            for row in rows
        }


def check(
    settings: Sequence[str], folder: Path, images: HostileImages, *, embedded: bool
) -> tuple[dict[str, Any], list[str]]:
    """Enriches all images, then the readable ones alone.

    Args:
        settings: Of the configuration, as for `--set`.
        folder: Where the tables go.
        images: What the table has.
        embedded: The engine runs its workers in this process.

    Returns:
        Figures, and one sentence for everything that is wrong.
    """
    made = {f"{index:06d}": image for first, batch in batches(images, 100) for index, image in enumerate(batch, first)}
    job = Job(settings, folder)
    started = time.monotonic()
    with watch_workers(embedded=embedded) as memory, quiet_stderr() as noise:
        code = job.run("hostile", made)
    seconds = time.monotonic() - started
    if code != 0:
        return {"exit_code": code}, [f"the job ended with {code}", *noise[-20:]]
    results = job.rows("hostile", "image_results")
    wrong = [f"index {key} has no row" for key in made if (key, 0) not in results]
    wrong += [complaint for (key, _), row in results.items() for complaint in _complaints(key, made[key], row)]
    wrong += [f"the log quotes an image: {line}" for line in noise if SECRET.decode() in line]
    read = {key: image for key, image in made.items() if results[key, 0]["status"] in READ}
    if job.run("alone", read) != 0:
        return {"exit_code": code}, [*wrong, "the job over the readable images alone failed"]
    largest, apart = _compare(job, set(read))
    figures = {
        "images": len(made),
        "mebibytes": round(sum(len(image.content or b"") for image in made.values()) / 2**20, 1),
        "exit_code": code,
        "statuses": dict(sorted(Counter(row["status"] for row in results.values()).items())),
        "faces": len(job.rows("hostile", "faces")),
        "readable_images_compared": len(read),
        "largest_relative_difference_from_alone": float(f"{largest:.2g}"),
        "seconds": round(seconds, 1),
        "worker_mib": memory.summary(),
        "driver_peak_mib": resident_mib("VmHWM"),
        "stderr_lines_that_are_not_the_log": sum(not line.startswith("{") for line in noise),  # the log is JSON
    }
    return figures, wrong + apart


def _complaints(key: str, image: HostileImage, row: Mapping[str, Any]) -> Iterator[str]:
    if row["status"] in READ:
        return
    if not row["error"] or SECRET.decode() in row["error"]:
        yield f"index {key}, {image.name}: {row['status']} with the message {row['error']!r}"
    if image.good:
        yield f"index {key}, {image.name}: undamaged, but {row['status']}: {row['error']}"


def _compare(job: Job, read: set[str]) -> tuple[float, list[str]]:
    """The largest difference between the two runs' rows of the readable images, and where it is too large."""
    largest, wrong = 0.0, []
    for table in ("image_results", "faces"):
        among, alone = (job.rows(name, table) for name in ("hostile", "alone"))
        among = {key: row for key, row in among.items() if key[0] in read}
        if among.keys() != alone.keys():
            wrong.append(f"{table} has other rows when the readable images are alone")
        apart = {key: difference(row, alone[key]) for key, row in among.items() if key in alone}
        wrong += [f"index {key}: {table} differs by {value:.2g}" for key, value in apart.items() if value > TOLERANCE]
        largest = max(largest, *apart.values(), 0.0)
    return largest, wrong


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=tuple(ENGINES), default="sail")
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", type=Path, default=PHOTOS, metavar="FOLDER", help="the demo's")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    settings = [*ENGINES[arguments.engine], *arguments.overrides]
    try:
        config = Config.load(None, settings)
        sources = pictures(photographs(arguments.photos))
    except FaceattrError as error:
        print(f"enrich_hostile: {error}", file=sys.stderr)
        return 2
    images = HostileImages(sources, arguments.images, arguments.seed, config.images.max_pixels)
    with tempfile.TemporaryDirectory() as folder:
        figures, wrong = check(settings, Path(folder), images, embedded=arguments.engine == "sail")
    told = {"engine": arguments.engine, "seed": arguments.seed, "settings": settings, **figures}
    return report(told, wrong, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
