"""Exports trained networks: safetensors, the OpenVINO graph and the metadata that binds them."""
