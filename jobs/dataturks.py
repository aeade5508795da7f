"""Turns a DataTurks export into a labelled-faces table, which jobs.train and jobs.evaluate read.

    python -m jobs.dataturks --export demographics.json --faces FACES.parquet [--photos FOLDER]

An export has labels only. With --photos, a folder that holds the photographs under the file names of their addresses,
the faces are cut out of them; without it the column `image` is null. What was rejected and why goes into FACES.json.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from faceattr_udf.datasets.dataturks import read_export
from faceattr_udf.errors import FaceattrError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; 0 on success, 2 when the export is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", type=Path, required=True, metavar="EXPORT.json")
    parser.add_argument("--faces", type=Path, required=True, metavar="FACES.parquet")
    parser.add_argument("--photos", type=Path, metavar="FOLDER")
    arguments = parser.parse_args(argv)
    try:
        table, report = read_export(arguments.export, arguments.photos)
    except FaceattrError as error:
        print(f"dataturks: {error}", file=sys.stderr)
        return 2
    arguments.faces.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, arguments.faces)
    details = {**report.summary(), "where": {"rejected": report.rejected, "noted": report.noted}}
    arguments.faces.with_suffix(".json").write_text(json.dumps(details, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report.summary(), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
