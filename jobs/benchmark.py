"""Runs `faceattr benchmark` under spark-submit or as `python -m jobs.benchmark`."""

import sys

from faceattr_udf.cli.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
