"""The nightly run: infers pending images in waves and commits each wave as a whole."""

from faceattr_udf.spark.enrichment.run import enrich

__all__ = ["enrich"]
