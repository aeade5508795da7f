"""Runs `faceattr maintain` under spark-submit or as `python -m jobs.maintain`."""

import sys

from faceattr_udf.cli.maintain import main

if __name__ == "__main__":
    sys.exit(main())
