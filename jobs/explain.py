"""Runs `faceattr explain` under spark-submit or as `python -m jobs.explain`."""

import sys

from faceattr_udf.cli.explain import main

if __name__ == "__main__":
    sys.exit(main())
