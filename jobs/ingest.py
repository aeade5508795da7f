"""Runs `faceattr ingest` under spark-submit or as `python -m jobs.ingest`."""

import sys

from faceattr_udf.cli.ingest import main

if __name__ == "__main__":
    sys.exit(main())
