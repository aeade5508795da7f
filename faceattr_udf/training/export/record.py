"""The record beside the files of a network: their checksums, and the terms of the weights."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from faceattr_udf.evaluation.sources import SOURCES
from faceattr_udf.labels import CLASSES, MAX_AGE
from faceattr_udf.weights import WeightsRecord

PACKAGE_WEIGHTS: Final = Path(__file__).resolve().parents[2] / "weights"
"""Folder of the weights that the package ships."""

CLASS_LABELS: Final = {"age": [str(year) for year in range(MAX_AGE + 1)]} | {k: list(v) for k, v in CLASSES.items()}
"""Attribute -> its class labels in order."""

LICENSE: Final = "Apache-2.0; trained on data sets for research use"
FACERES_LICENSE: Final = (
    "Apache-2.0; initialised from FaceRes-deep, MIT, Copyright (c) 2021 Vladimir Mandic; "
    "trained on data sets for research use"
)


def training_data(sources: Iterable[str]) -> list[str]:
    """Returns the names and the terms of data sets, for a record; the source itself where it is not known.

    >>> training_data(["fairface", "mine"])
    ['FairFace (CC BY 4.0)', 'mine']
    """
    names = sorted(set(sources))
    return [f"{SOURCES[name].name} ({SOURCES[name].terms})" if name in SOURCES else name for name in names]


def write_record(folder: Path, record: WeightsRecord, suffixes: Sequence[str]) -> WeightsRecord:
    """Writes `NAME.json` with the checksums of the files beside it.

    Args:
        folder: Folder of the files.
        record: Its version and checksums are replaced.
        suffixes: Suffixes of the files that belong to the network.

    Returns:
        The record as written.
    """
    names = [f"{record.name}.{suffix}" for suffix in suffixes]
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    # The version covers all files: another graph of the same weights gives other predictions, and tables must be able
    # to tell them apart.
    version = hashlib.sha256("".join(sums.values()).encode()).hexdigest()[:12]
    written = record.model_copy(update={"version": version, "sha256": sums})
    (folder / f"{record.name}.json").write_text(written.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return written
