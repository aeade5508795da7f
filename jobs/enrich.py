"""Runs `faceattr enrich` under spark-submit or as `python -m jobs.enrich`."""

import sys

from faceattr_udf.cli.enrich import main

if __name__ == "__main__":
    sys.exit(main())
