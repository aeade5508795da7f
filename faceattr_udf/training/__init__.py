"""Trains the attribute networks and the prefilter, and exports their weights."""
