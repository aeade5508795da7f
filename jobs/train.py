"""Runs `faceattr train` under spark-submit or as `python -m jobs.train`."""

import sys

from faceattr_udf.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
