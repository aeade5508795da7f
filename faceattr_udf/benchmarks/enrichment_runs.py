"""Benchmarks of the enrich job: its cost relative to the multiprocessing baseline, and its scaling with the table."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from faceattr_udf.benchmarks.baselines import naive_detection
from faceattr_udf.benchmarks.machine import parallel_speedup
from faceattr_udf.benchmarks.memory import watch_workers
from faceattr_udf.benchmarks.multiprocessing_baseline import analyze_table
from faceattr_udf.benchmarks.synthetic_table import portraits, write_images_table
from faceattr_udf.benchmarks.timing import time_interleaved
from faceattr_udf.config import Config
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.maintenance.actions import TableSize, maintain
from faceattr_udf.spark.session import start

PROCESSES = 2
_WARM_UP_ROWS = 8


def engines(contents: Sequence[bytes], configs: Mapping[str, Config], rows: int, rounds: int) -> dict[str, Any]:
    """Compares the enrich job with the multiprocessing baseline of one and two processes on the same photographs.

    Sessions are started before the measurement. The start of Python workers and loading the networks are measured.

    Args:
        contents: Photographs, repeated to fill the table.
        configs: Engine -> configuration that selects it.
        rows: Rows of the table.
        rounds: How often each contender runs.
    """
    with tempfile.TemporaryDirectory() as name:
        table = write_images_table(Path(name) / "images", contents, rows)
        # The baselines get parts of the table: their cost per image does not depend on the size, that of a job does.
        shares = {"multiprocessing_1": 6, "multiprocessing_2": 2, "naive": 30}
        parts = {contender: max(1, rows // share) for contender, share in shares.items()}
        tables = {part: write_images_table(Path(name) / part, contents, size) for part, size in parts.items()}
        job = _Job(Path(name), configs)
        for engine in configs:
            job.run(engine, write_images_table(Path(name) / f"few-{engine}", contents, _WARM_UP_ROWS))
        faces: dict[str, int] = {}

        def baseline(processes: int) -> Callable[[], None]:
            contender = f"multiprocessing_{processes}"

            def run() -> None:
                faces[contender] = analyze_table(tables[contender], next(iter(configs.values())), processes)

            return run

        def enrichment(engine: str) -> Callable[[], None]:
            def run() -> None:
                faces[engine] = job.run(engine, table)["faces"]

            return run

        def naive() -> None:
            faces["naive"] = naive_detection(start(configs["spark"]), tables["naive"])

        contenders = {
            "multiprocessing_1": baseline(1),
            "multiprocessing_2": baseline(PROCESSES),
            **{engine: enrichment(engine) for engine in configs},
        }
        if "spark" in configs:
            contenders["naive"] = naive
        times = time_interleaved(contenders, rounds, dict.fromkeys(contenders, rows) | parts, warm_up=False)
    return {
        "photographs": rows,
        "faces": faces,
        "milliseconds_per_photograph": {contender: times.milliseconds(contender) for contender in contenders},
        "two_processes_against_one": times.ratio("multiprocessing_1", "multiprocessing_2"),
        "matrix_products_of_two_processes_against_one": round(parallel_speedup(PROCESSES), 2),
        "against_two_processes": {engine: times.ratio(engine, "multiprocessing_2") for engine in configs},
        "times_as_fast_as_naive": {engine: times.ratio("naive", engine) for engine in configs if "naive" in contenders},
    }


def scaling(contents: Sequence[bytes], configs: Mapping[str, Config], sizes: Sequence[int]) -> dict[str, Any]:
    """Runs the job over tables of small images with one face each: cost per image, memory, second run, compaction.

    Args:
        contents: Photographs that the faces are cropped from.
        configs: Engine -> configuration that selects it.
        sizes: Rows of the tables, ascending.
    """
    small = portraits(contents, next(iter(configs.values())))
    measurements: dict[str, Any] = {"images": len(small)}
    with tempfile.TemporaryDirectory() as name:
        job = _Job(Path(name), configs)
        tables = {rows: write_images_table(Path(name) / f"images-{rows}", small, rows) for rows in sizes}
        for engine in configs:
            job.run(engine, write_images_table(Path(name) / f"few-{engine}", small, _WARM_UP_ROWS))
            runs = {str(rows): job.run_twice_and_compact(engine, table) for rows, table in tables.items()}
            first, last = (runs[str(sizes[index])]["seconds"] for index in (0, -1))
            # The difference between two tables does not contain the fixed cost of a run.
            marginal = 1000.0 * (last - first) / max(1, sizes[-1] - sizes[0])
            measurements[engine] = {"by_rows": runs, "milliseconds_per_additional_image": round(marginal, 3)}
    return measurements


class _Job:
    """Runs the enrich job, each time into a new output."""

    def __init__(self, folder: Path, configs: Mapping[str, Config]) -> None:
        self._folder = folder
        self._configs = configs
        self._count = 0

    def run(self, engine: str, table: Path) -> dict[str, Any]:
        self._count += 1
        return self._measure_run(engine, table, self._output())

    def run_twice_and_compact(self, engine: str, table: Path) -> dict[str, Any]:
        measurements = self.run(engine, table)
        config, output = self._configs[engine], self._output()
        started = time.perf_counter()
        second = enrich(start(config), config, str(table), output)
        measurements["second_run"] = {
            "seconds": round(time.perf_counter() - started, 2),
            "images": second.n_images,
            "inferred": second.n_inferred,
        }
        started = time.perf_counter()
        result = maintain(start(config), config, output, ["compact"])
        measurements["compaction"] = {
            "seconds": round(time.perf_counter() - started, 2),
            "tables": {one.name: [_size(one.before), _size(one.after)] for one in result.tables},
        }
        return measurements

    def _output(self) -> str:
        return str(self._folder / f"output-{self._count}")

    def _measure_run(self, engine: str, table: Path, output: str) -> dict[str, Any]:
        config = self._configs[engine]
        session = start(config)
        started = time.perf_counter()
        with watch_workers(embedded=engine == "sail") as curve:
            run = enrich(session, config, str(table), output)
        seconds = time.perf_counter() - started
        return {
            "images": run.n_images,
            "faces": run.n_faces,
            "inferred": run.n_inferred,
            "seconds": round(seconds, 2),
            "milliseconds_per_image": round(1000.0 * seconds / max(1, run.n_images), 3),
            "worker_memory": curve.summary(),
        }


def _size(size: TableSize) -> dict[str, float]:
    return {"files": size.files, "mib": round(size.bytes / 2**20, 2)}
