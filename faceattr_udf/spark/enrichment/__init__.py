"""The nightly run: infers pending images in waves, and commits each wave as a whole."""

from faceattr_udf.spark.enrichment.run import EnrichmentRun, enrich

__all__ = ["EnrichmentRun", "enrich"]
