"""Accuracy of attribute models on labeled faces."""
