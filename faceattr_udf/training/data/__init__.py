"""Training data: augmentation, sampling and prefetching."""
