"""The least that a night can cost: plain processes over a table, no engine and no output."""

import multiprocessing
from pathlib import Path

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.benchmarks.synthetic_table import read_share
from faceattr_udf.config import Config


def bare_loop(table: Path, config: Config, processes: int) -> int:
    """Analyses a Parquet table. This module imports no peer, because every process would pay for it.

    Args:
        table: As `catalogue.write_catalogue` writes it.
        config: Of the analyzers.
        processes: How many share the row groups.

    Returns:
        Faces found.
    """
    arguments = [(str(table), config.model_dump_json(), share, processes) for share in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return sum(pool.starmap(_analyse_share, arguments, chunksize=1))


def _analyse_share(table: str, config_json: str, share: int, shares: int) -> int:
    config = Config.model_validate_json(config_json)
    analyzer = FaceAnalyzer.from_config(config)
    batches = read_share(Path(table), share, shares, config.enrich.max_batch_rows)
    return sum(result.n_faces for batch in batches for result in analyzer.analyze(batch))
