"""Single images: bytes -> upright RGB, faces cut out of them, how well a face can be seen."""
