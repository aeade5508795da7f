"""The Spark layer: image tables in, Delta tables of faces out, on any engine that speaks Spark's DataFrame API."""
