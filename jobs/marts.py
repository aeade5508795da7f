"""Runs `faceattr marts` under spark-submit or as `python -m jobs.marts`."""

import sys

from faceattr_udf.cli.marts import main

if __name__ == "__main__":
    sys.exit(main())
