"""Corrects shares of labels for the model's own confusions, with intervals; NumPy only.

`calibrate` measures how a model scores faces of every label, `calibration_file` stores that beside the weights, and
`correct` turns sums of scores into shares. docs/shares.md explains the method and says how well it does.
"""
