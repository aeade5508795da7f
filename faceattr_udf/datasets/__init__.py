"""Readers of labelled data: Parquet files of face crops and DataTurks exports."""
