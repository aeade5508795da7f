"""Runs `faceattr evaluate` under spark-submit or as `python -m jobs.evaluate`."""

import sys

from faceattr_udf.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
