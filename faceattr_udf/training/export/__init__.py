"""Export of trained networks: safetensors, the OpenVINO graph, and the record that binds them."""
