"""Runs `faceattr report` under spark-submit or as `python -m jobs.report`."""

import sys

from faceattr_udf.cli.report import main

if __name__ == "__main__":
    sys.exit(main())
