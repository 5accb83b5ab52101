"""Fusion: nests are substituted into each other until groups of stages remain."""
