"""Bases W0: families, layers, and what a score is."""
