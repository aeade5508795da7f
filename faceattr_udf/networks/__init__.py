"""All networks, in PyTorch: for training, for inference on GPUs, and as the reference for the exported graphs.

Inference on CPUs runs the graphs in `faceattr_udf.weights` and does not import this package.
"""
