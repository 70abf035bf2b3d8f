"""The columns of the tables: which say what a row is of, and which are its numbers."""

from __future__ import annotations

from collections.abc import Iterable

UPDATE = ("suite", "backbone", "release", "protection")
"""Of which updates a row is; ``release`` is their format."""


CELL = ("merge_method", "merge_space")


STATISTIC = ("correlation", "n_pairs", "statistic")


NOTES = "notes"


SEEDS = "seeds"


FACTS = frozenset((*UPDATE, *CELL, *STATISTIC, NOTES, SEEDS))


STD = "_std"
"""What a column of standard deviations over seeds has behind its name."""


REFERENCES = {"standalone": "fine-tuned", "merging": "unprotected"}
"""The protection that others are compared with, by kind of table; ``unprotected`` elsewhere."""


def numbers(names: Iterable[str]) -> list[str]:
    """The columns that hold numbers: no facts, no deviations."""
    return [name for name in names if name not in FACTS and not name.endswith(STD)]
