"""Runs `faceattr dataturks` under spark-submit or as `python -m jobs.dataturks`."""

import sys

from faceattr_udf.cli.dataturks import main

if __name__ == "__main__":
    sys.exit(main())
