"""The command line `faceattr`: one module per command."""

from faceattr_udf.cli.app import main

__all__ = ["main"]
