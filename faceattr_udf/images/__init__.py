"""Single images: decoding to upright RGB, face crops, face quality and annotation."""
