"""Runs the enrichment job over a table of hostile images and checks that no image fails, disappears or affects others.

    python tests/robustness/enrich_hostile.py --engine sail|spark --images 2000 --seed 0 --json FILE [--set ...]

The job must exit with 0 and write one row of image_results per image, with a message if the status is not ok or
no_face. A second run over the readable images alone must give the same rows. On errors the command prints what failed,
with the index that reproduces it, and exits with 1.
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
from hostile_images import HostileImage, HostileImages, batches, source_images
from monitoring import TOLERANCE, capture_stderr, difference, report, resident_mib

sys.path.insert(0, str(Path(__file__).parents[1]))

from shared_data import DEMO_PHOTOS, fetch_demo_photos

from faceattr_udf.benchmarks.memory import watch_workers
from faceattr_udf.cli import enrich
from faceattr_udf.config import Config
from faceattr_udf.errors import FaceattrError
from faceattr_udf.spark.session import start

ENGINES: Final = {"sail": ("engine.name=sail",), "spark": ("engine.name=spark", "engine.master=local[2]")}
READ: Final = ("ok", "no_face")
_RUN_COLUMNS: Final = {"run_id", "processed_at"}
Rows = dict[tuple[str, int], dict[str, Any]]


class EnrichmentRunner:
    """Runs the enrichment job on one engine, with its tables in one folder."""

    def __init__(self, settings: Sequence[str], folder: Path) -> None:
        self._settings, self._folder = settings, folder

    def run(self, name: str, images: Mapping[str, HostileImage]) -> int:
        """Writes a table of images, enriches it, and returns the job's exit code."""
        table = self._folder / name / "images"
        table.mkdir(parents=True)
        contents = pa.array([image.content for image in images.values()], pa.binary())
        columns = {"image_id": pa.array(list(images), pa.string()), "content": contents}
        pq.write_table(pa.table(columns), table / "part-0.parquet", row_group_size=100, use_dictionary=False)
        chosen = [word for setting in self._settings for word in ("--set", setting)]
        return enrich.main(["--images", str(table), "--output", str(self._folder / name), *chosen])

    def rows(self, name: str, table: str) -> Rows:
        """Returns a table's rows by image and face, without the columns that differ from run to run."""
        frame = start(Config.load(None, self._settings)).read.format("delta").load(str(self._folder / name / table))
        rows = [row.asDict(recursive=True) for row in frame.collect()]
        return {
            (row["image_id"], row.get("face_index", 0)): {k: v for k, v in row.items() if k not in _RUN_COLUMNS}
            for row in rows
        }


def check(
    settings: Sequence[str], folder: Path, images: HostileImages, *, embedded: bool
) -> tuple[dict[str, Any], list[str]]:
    """Enriches all images, then the readable ones alone.

    Args:
        settings: Configuration settings, as for `--set`.
        folder: Where the tables are written.
        images: The images of the table.
        embedded: Whether the engine runs its workers in this process.

    Returns:
        Measurements, and one sentence per error.
    """
    by_id = {f"{index:06d}": image for first, batch in batches(images, 100) for index, image in enumerate(batch, first)}
    runner = EnrichmentRunner(settings, folder)
    started = time.monotonic()
    with watch_workers(embedded=embedded) as memory, capture_stderr() as lines:
        code = runner.run("hostile", by_id)
    seconds = time.monotonic() - started
    if code != 0:
        return {"exit_code": code}, [f"the job exited with {code}", *lines[-20:]]
    results = runner.rows("hostile", "image_results")
    errors = [f"index {key} has no row" for key in by_id if (key, 0) not in results]
    errors += [error for (key, _), row in results.items() for error in _row_errors(key, by_id[key], row)]
    errors += [f"the log quotes an image: {line}" for line in lines if SECRET.decode() in line]
    read = {key: image for key, image in by_id.items() if results[key, 0]["status"] in READ}
    if runner.run("alone", read) != 0:
        return {"exit_code": code}, [*errors, "the job over the readable images alone failed"]
    largest, differences = _compare(runner, set(read))
    measurements = {
        "images": len(by_id),
        "mebibytes": round(sum(len(image.content or b"") for image in by_id.values()) / 2**20, 1),
        "exit_code": code,
        "statuses": dict(sorted(Counter(row["status"] for row in results.values()).items())),
        "faces": len(runner.rows("hostile", "faces")),
        "readable_images_compared": len(read),
        "largest_relative_difference_from_alone": float(f"{largest:.2g}"),
        "seconds": round(seconds, 1),
        "worker_mib": memory.summary(),
        "driver_peak_mib": resident_mib("VmHWM"),
        "stderr_lines_that_are_not_the_log": sum(not line.startswith("{") for line in lines),  # the log is JSON
    }
    return measurements, errors + differences


def _row_errors(key: str, image: HostileImage, row: Mapping[str, Any]) -> Iterator[str]:
    if row["status"] in READ:
        return
    if not row["error"] or SECRET.decode() in row["error"]:
        yield f"index {key}, {image.name}: {row['status']} with the message {row['error']!r}"
    if image.good:
        yield f"index {key}, {image.name}: undamaged, but {row['status']}: {row['error']}"


def _compare(runner: EnrichmentRunner, read: set[str]) -> tuple[float, list[str]]:
    """Returns the largest difference between rows of the two runs, and an error for each that is too large."""
    largest, errors = 0.0, []
    for table in ("image_results", "faces"):
        among, alone = (runner.rows(name, table) for name in ("hostile", "alone"))
        among = {key: row for key, row in among.items() if key[0] in read}
        if among.keys() != alone.keys():
            errors.append(f"{table} has other rows when the readable images are alone")
        relative = {key: difference(row, alone[key]) for key, row in among.items() if key in alone}
        errors += [f"index {key}: {table} differs by {r:.2g}" for key, r in relative.items() if r > TOLERANCE]
        largest = max(largest, *relative.values(), 0.0)
    return largest, errors


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=tuple(ENGINES), default="sail")
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--photos", type=Path, default=DEMO_PHOTOS, metavar="FOLDER", help="the demo's photographs; fetched if missing"
    )
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    settings = [*ENGINES[arguments.engine], *arguments.overrides]
    try:
        config = Config.load(None, settings)
        sources = source_images(fetch_demo_photos(arguments.photos))
    except FaceattrError as error:
        print(f"enrich_hostile: {error}", file=sys.stderr)
        return 2
    images = HostileImages(sources, arguments.images, arguments.seed, config.images.max_pixels)
    with tempfile.TemporaryDirectory() as folder:
        measurements, errors = check(settings, Path(folder), images, embedded=arguments.engine == "sail")
    inputs = {"engine": arguments.engine, "seed": arguments.seed, "settings": settings}
    return report({**inputs, **measurements}, errors, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
