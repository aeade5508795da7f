"""Runs `python -m faceattr_udf.training.prefilter`."""

from faceattr_udf.training.prefilter.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
