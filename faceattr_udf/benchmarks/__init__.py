"""Measuring speed: contenders that take turns on the same photographs, and how far ours is from the machine's limit."""
