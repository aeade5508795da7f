"""Runs `faceattr compare` under spark-submit or as `python -m jobs.compare`."""

import sys

from faceattr_udf.cli.compare import main

if __name__ == "__main__":
    sys.exit(main())
