"""Benchmarks of the engine's own work: nights whose analyzer answers at once, so that no model is measured."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from faceattr_udf.benchmarks.engine_meter import measured, merges, next_version, written_per_changed_row
from faceattr_udf.benchmarks.stub_analyzer import STUB, write_stub_table
from faceattr_udf.config import Config
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.session import start

_FEW: Final = 100
_ONE_PERCENT: Final = 100
_WAVES: Final = 10
_FILES: Final = 30
_CONTENT_BYTES: Final = 10_000
_NIGHTS: Final = 3
_TABLES: Final = ("faces", "image_results")


def engine(configs: Mapping[str, Config], events: Path, images: int) -> dict[str, Any]:
    """Measures a first night, a night with nothing new, one with 1 % of the images changed, and one with 1 % new.

    Args:
        configs: Engine -> configuration that selects it.
        events: The folder of Spark's event log.
        images: Rows of the images table.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = write_stub_table(folder / "few", _FEW)
        before, after = (
            write_stub_table(folder / f"version-{version}", images, every=_ONE_PERCENT, version=version)
            for version in range(2)
        )
        grown = write_stub_table(folder / "grown", images + images // _ONE_PERCENT, every=_ONE_PERCENT, version=1)
        results: dict[str, Any] = {"images": images}
        for engine_name, config in configs.items():
            # The JVM and the workers start, and the JVM compiles what it runs often.
            small = _Nights(folder / f"{engine_name}-few", config, events)
            nights = _Nights(folder / engine_name, config, events)
            results[engine_name] = {
                f"first night of {_FEW} images, engine cold": small.run(few),
                f"night of {_FEW} with nothing new": small.run(few),
                "first night": nights.run(before),
                "nothing new": nights.run(before),
                "1 % changed": nights.run(after),
                "1 % new": nights.run(grown),
            }
    return results


def layout(configs: Mapping[str, Config], events: Path, images: int) -> dict[str, Any]:
    """Measures how much of an images table a night in ten waves reads, with ids in the order of the files and without.

    Args:
        configs: As for `engine`.
        events: As for `engine`.
        images: Rows of the images table, each of 10,000 bytes, in 30 files. Only a file with more images than
            `enrich.wave_images` is divided among waves.
    """
    results: dict[str, Any] = {"images": images}
    with tempfile.TemporaryDirectory() as name:
        for order in ("in the order of the files", "without order"):
            table = write_stub_table(
                Path(name) / order[:2],
                images,
                content_bytes=_CONTENT_BYTES,
                in_order=order.startswith("in"),
                rows_per_file=-(-images // _FILES),
            )
            size = sum(path.stat().st_size for path in table.iterdir()) / 2**20
            for engine_name, config in configs.items():
                waves = config.enrich.model_copy(update={"wave_images": max(1, images // _WAVES)})
                nights = _Nights(
                    Path(name) / f"{engine_name}-{order[:2]}", config.model_copy(update={"enrich": waves}), events
                )
                night = nights.run(table)
                read = night["mib_read"]
                night["times_the_table"] = None if read is None else round(read / size, 2)
                results.setdefault(engine_name, {})[order] = night
    return results


def updates(configs: Mapping[str, Config], events: Path, images: int) -> dict[str, Any]:
    """Measures how many rows are written for each one that changes, on three nights with 1 % of the images changed.

    Args:
        configs: As for `engine`; Spark is measured with deletion vectors and without.
        events: As for `engine`.
        images: Rows of the images table.
    """
    results: dict[str, Any] = {"images": images}
    with tempfile.TemporaryDirectory() as name:
        tables = [
            write_stub_table(Path(name) / f"version-{version}", images, every=_ONE_PERCENT, version=version)
            for version in range(_NIGHTS + 1)
        ]
        for engine_name, config in configs.items():
            for vectors in (True, False) if engine_name == "spark" else (False,):
                output = config.output.model_copy(update={"deletion_vectors": vectors})
                variant = f"{engine_name}, deletion vectors" if vectors else engine_name
                nights = _Nights(Path(name) / variant, config.model_copy(update={"output": output}), events)
                nights.run(tables[0])
                results[variant] = {f"night {number}": nights.run(tables[number]) for number in range(1, _NIGHTS + 1)}
    return results


@dataclass(frozen=True)
class _Nights:
    """Nights of one output."""

    output: Path
    config: Config
    events: Path

    def run(self, images: Path) -> dict[str, Any]:
        spark = start(self.config)
        versions = {name: next_version(self.output / name) for name in _TABLES}
        events = self.events if self.config.engine.name == "spark" else None
        with measured(events) as cost:
            run = enrich(spark, self.config, str(images), str(self.output), provider=STUB, progress=cost)
        rows = {name: merges(self.output / name, version) for name, version in versions.items()}
        return {
            "images": run.n_images,
            **cost.summary(),
            "rows": rows,
            "rows_written_per_changed_row": {name: written_per_changed_row(counts) for name, counts in rows.items()},
        }
