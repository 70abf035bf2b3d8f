"""Merging: the methods of the paper's evaluation, from updates to one merged update.

    merger = Merger(updates, "KnOTS")
    merged = merger.merge("TIES", keep=20)

Adding a method is one function and one entry in :data:`METHODS`.
"""

from trap2.merging.merger import Merger
from trap2.merging.registry import METHODS, Method, Option, check_options

__all__ = ["METHODS", "Merger", "Method", "Option", "check_options"]
