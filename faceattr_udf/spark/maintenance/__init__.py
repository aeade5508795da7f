"""Maintenance of the output tables: compaction, vacuum, pruning and schema migrations."""

from faceattr_udf.spark.maintenance.actions import maintain

__all__ = ["maintain"]
