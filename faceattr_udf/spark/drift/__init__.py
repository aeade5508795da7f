"""Drift of the runs of an output: values of runs from the tables, verdicts to the drift table."""

from faceattr_udf.spark.drift.job import judge_run

__all__ = ["judge_run"]
