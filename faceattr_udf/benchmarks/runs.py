"""The enrich job on its engines: what it costs beside a bare loop, and how its cost and memory grow with the table."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from faceattr_udf.benchmarks.baselines import naive_detection
from faceattr_udf.benchmarks.machine import gain_of_processes
from faceattr_udf.benchmarks.memory import watch_workers
from faceattr_udf.benchmarks.multiprocessing_baseline import bare_loop
from faceattr_udf.benchmarks.synthetic_table import portraits, write_catalogue
from faceattr_udf.benchmarks.timing import take_turns
from faceattr_udf.config import Config
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.maintenance.actions import Layout, maintain
from faceattr_udf.spark.session import start

PROCESSES = 2
_WARM_UP_ROWS = 8


def engines(contents: Sequence[bytes], configs: Mapping[str, Config], rows: int, rounds: int) -> dict[str, Any]:
    """The whole job against bare loops of one and of two processes over the same photographs.

    Bare loops and the naive peer have parts of the table. Sessions are up before; starting Python workers and loading
    networks counts for all.

    Args:
        contents: Photographs, repeated.
        configs: Engine -> configuration that selects it.
        rows: Of the table.
        rounds: How often each runs.
    """
    with tempfile.TemporaryDirectory() as name:
        table = write_catalogue(Path(name) / "images", contents, rows)
        # A loop is as fast over a part, and the naive peer is slow; what a night costs, only the whole table says.
        parts = {"bare_1": max(1, rows // 6), "bare_2": max(1, rows // 2), "naive": max(1, rows // 30)}
        tables = {part: write_catalogue(Path(name) / part, contents, size) for part, size in parts.items()}
        night = _Nights(Path(name), configs)
        for engine in configs:
            night.run(engine, write_catalogue(Path(name) / f"few-{engine}", contents, _WARM_UP_ROWS))
        faces: dict[str, int] = {}

        def bare(processes: int, images: Path) -> Callable[[], None]:
            def run() -> None:
                faces[f"bare_{processes}"] = bare_loop(images, next(iter(configs.values())), processes)

            return run

        def job(engine: str) -> Callable[[], None]:
            def run() -> None:
                faces[engine] = night.run(engine, table)["faces"]

            return run

        def naive() -> None:
            faces["naive"] = naive_detection(start(configs["spark"]), tables["naive"])

        contenders = {
            "bare_1": bare(1, tables["bare_1"]),
            "bare_2": bare(PROCESSES, tables["bare_2"]),
            **{engine: job(engine) for engine in configs},
        }
        if "spark" in configs:
            contenders["naive"] = naive
        times = take_turns(contenders, rounds, dict.fromkeys(contenders, rows) | parts, warm_up=False)
    return {
        "photographs": rows,
        "faces": faces,
        "milliseconds_per_photograph": {contender: times.milliseconds(contender) for contender in contenders},
        "two_processes_against_one": times.ratio("bare_1", "bare_2"),
        "matrix_products_of_two_processes_against_one": round(gain_of_processes(PROCESSES), 2),
        "against_two_bare_processes": {engine: times.ratio(engine, "bare_2") for engine in configs},
        "times_as_fast_as_naive": {engine: times.ratio("naive", engine) for engine in configs if "naive" in contenders},
    }


def growth(contents: Sequence[bytes], configs: Mapping[str, Config], sizes: Sequence[int]) -> dict[str, Any]:
    """Nights over tables of small pictures with a face each: cost per image, memory, a second run, a compaction.

    Args:
        contents: Photographs that the faces are cut from.
        configs: Engine -> configuration that selects it.
        sizes: Rows of the tables, rising.
    """
    small = portraits(contents, next(iter(configs.values())))
    figures: dict[str, Any] = {"pictures": len(small)}
    with tempfile.TemporaryDirectory() as name:
        night = _Nights(Path(name), configs)
        tables = {rows: write_catalogue(Path(name) / f"images-{rows}", small, rows) for rows in sizes}
        for engine in configs:
            night.run(engine, write_catalogue(Path(name) / f"few-{engine}", small, _WARM_UP_ROWS))
            runs = {str(rows): night.run(engine, table, morning=True) for rows, table in tables.items()}
            first, last = (runs[str(sizes[index])]["seconds"] for index in (0, -1))
            # The fixed cost of a night falls out of the difference.
            marginal = 1000.0 * (last - first) / max(1, sizes[-1] - sizes[0])
            figures[engine] = {"by_rows": runs, "milliseconds_per_further_image": round(marginal, 3)}
    return figures


class _Nights:
    def __init__(self, folder: Path, configs: Mapping[str, Config]) -> None:
        self._folder = folder
        self._configs = configs
        self._count = 0

    def run(self, engine: str, table: Path, *, morning: bool = False) -> dict[str, Any]:
        config = self._configs[engine]
        self._count += 1
        output = str(self._folder / f"night-{self._count}")
        session = start(config)
        started = time.perf_counter()
        with watch_workers(embedded=engine == "sail") as curve:
            run = enrich(session, config, str(table), output)
        seconds = time.perf_counter() - started
        figures: dict[str, Any] = {
            "images": run.n_images,
            "faces": run.n_faces,
            "inferred": run.n_inferred,
            "seconds": round(seconds, 2),
            "milliseconds_per_image": round(1000.0 * seconds / max(1, run.n_images), 3),
            "worker_memory": curve.summary(),
        }
        if morning:
            started = time.perf_counter()
            second = enrich(start(config), config, str(table), output)
            figures["second_run"] = {
                "seconds": round(time.perf_counter() - started, 2),
                "images": second.n_images,
                "inferred": second.n_inferred,
            }
            started = time.perf_counter()
            kept = maintain(start(config), config, output, ["compact"])
            figures["compaction"] = {
                "seconds": round(time.perf_counter() - started, 2),
                "tables": {one.name: [_layout(one.before), _layout(one.after)] for one in kept.tables},
            }
        return figures


def _layout(layout: Layout) -> dict[str, float]:
    return {"files": layout.files, "mib": round(layout.bytes / 2**20, 2)}
