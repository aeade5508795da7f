"""Multiprocessing baseline: plain processes over a table without an engine or an output, the least a run can cost."""

import multiprocessing
from pathlib import Path

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.benchmarks.synthetic_table import read_share
from faceattr_udf.config import Config


def analyze_table(table: Path, config: Config, processes: int) -> int:
    """Analyzes a Parquet table with plain processes.

    This module imports no other library to compare with, because every process would load it.

    Args:
        table: A table of `synthetic_table.write_images_table`.
        config: Configures the analyzers.
        processes: Number of processes that share the row groups.

    Returns:
        The number of faces.
    """
    arguments = [(str(table), config.model_dump_json(), share, processes) for share in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return sum(pool.starmap(_analyze_share, arguments, chunksize=1))


def _analyze_share(table: str, config_json: str, share: int, shares: int) -> int:
    config = Config.model_validate_json(config_json)
    analyzer = FaceAnalyzer.from_config(config)
    batches = read_share(Path(table), share, shares, config.enrich.max_batch_rows)
    return sum(result.n_faces for batch in batches for result in analyzer.analyze(batch))
