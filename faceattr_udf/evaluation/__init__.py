"""Accuracy of attribute models on labelled faces."""
