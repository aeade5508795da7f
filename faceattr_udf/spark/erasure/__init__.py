"""Erasure with proof: rows, files, logs and statistics of images, and a certificate of the search that follows."""

from faceattr_udf.spark.erasure.run import Erasure, Wish, erase

__all__ = ["Erasure", "Wish", "erase"]
