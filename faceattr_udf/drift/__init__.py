"""Judges whether a night differs from the nights before it; pure Python, without tables.

`rule` judges one value against earlier nights, `nights` judges all values of a night and says what kind of change it
is. docs/drift.md explains the rule and says how well it does.
"""
