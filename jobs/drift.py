"""Runs `faceattr drift` under spark-submit or as `python -m jobs.drift`."""

import sys

from faceattr_udf.cli.drift import main

if __name__ == "__main__":
    sys.exit(main())
