"""Mergers: methods, merge spaces, mergers with data, and the search of the coefficient."""
