"""Scripts for spark-submit, one per command of `faceattr`; not part of the wheel."""
