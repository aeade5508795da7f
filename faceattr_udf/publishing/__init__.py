"""Tables for others, from which no count of fewer than k people can be worked out: docs/publishing.md.

What is protected are tables of one period. Each person counts once, so every cell is a number of people.
"""
