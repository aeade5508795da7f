"""Runs `python -m faceattr_udf.training.export`."""

from faceattr_udf.training.export.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
