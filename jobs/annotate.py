"""Runs `faceattr annotate` under spark-submit or as `python -m jobs.annotate`."""

import sys

from faceattr_udf.cli.annotate import main

if __name__ == "__main__":
    sys.exit(main())
