"""Inference backends behind one interface: OpenVINO on CPUs, PyTorch on GPUs."""
