"""Labeled data sets: Parquet files of face images, and DataTurks exports."""
