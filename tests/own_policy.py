"""A policy of a user's own, with one rule, whose id is "own"."""

OWN = """
[[rule]]
id = "own"
title = "Ours"
source = "Board decision 3"
url = "https://example.com"
in_force = 2026-01-01
checked = 2026-01-01
when = { jurisdiction = "XX" }
effect = "restrict"
drop = ["emotion"]
says = "we do not look at emotions"
"""
