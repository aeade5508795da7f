"""Runs `faceattr demo` under spark-submit or as `python -m jobs.demo`."""

import sys

from faceattr_udf.cli.demo import main

if __name__ == "__main__":
    sys.exit(main())
