"""Every network, written once, in torch: for training, for GPUs, and as the oracle of the CPU runtime.

Production on CPU runs the exported graphs in `faceattr_udf.weights` and never imports this package.
"""
