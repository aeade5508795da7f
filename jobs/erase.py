"""Runs `faceattr erase` under spark-submit or as `python -m jobs.erase`."""

import sys

from faceattr_udf.cli.erase import main

if __name__ == "__main__":
    sys.exit(main())
