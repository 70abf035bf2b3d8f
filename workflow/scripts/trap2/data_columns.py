"""What merges with data are called in tables."""

from __future__ import annotations

SAMPLING_LETTERS = {"random": "R", "class-stratified": "C"}


def data_column(method: str, sampling: str) -> str:
    """A merge with data as the paper's Table 5 names it: ``RegMean (R)``."""
    return f"{method} ({SAMPLING_LETTERS[sampling]})"
