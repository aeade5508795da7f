"""Runs `faceattr publish` under spark-submit or as `python -m jobs.publish`."""

import sys

from faceattr_udf.cli.publish import main

if __name__ == "__main__":
    sys.exit(main())
