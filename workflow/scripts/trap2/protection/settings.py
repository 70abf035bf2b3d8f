"""The settings of TRAP²: its objective, and the choice of λ."""

from __future__ import annotations

from dataclasses import dataclass

from trap2.runtime.settings import setting

WEIGHTINGS = ("1/s", "1/sqrt(s)", "1")
"""The names of w(s) of Eq. 8."""


@dataclass(frozen=True)
class Trap2Settings:
    """The TRAP² objective (Eq. 8, 9) without its λ, and the rule that chooses λ afterwards."""

    weighting: str = setting("w(s) of Eq. 8.", "1/s", choices=WEIGHTINGS)
    s_min: float = setting("Smallest off-nominal scale.", 0.05, above=0, below=1)
    s_max: float = setting("Largest off-nominal scale.", 2.0, above=0, at_most=1000)
    delta: float = setting("Margin around s = 1 that is never drawn.", 0.05, above=0, below=1)
    tolerance: float = setting(
        "The largest λ whose validation accuracy is at most this many percent (relative) below the "
        "unprotected one is taken.",
        3,
        at_least=0,
        at_most=100,
    )


def range_problem(s_min: float, s_max: float, delta: float, prefix: str = "") -> str | None:
    """Why scales cannot be drawn from [s_min, 1 − δ] ∪ [1 + δ, s_max]; None where they can.

    Args:
        s_min: the smallest scale.
        s_max: the largest scale.
        delta: the margin around 1.
        prefix: what stands before a key in messages.
    """
    if not 0 < delta < 1:
        return f"{prefix}delta is {delta}; it must lie between 0 and 1"
    if not 0 < s_min < 1 - delta:
        return (
            f"{prefix}s_min is {s_min}; it must lie between 0 and 1 - {prefix}delta = "
            f"{1 - delta:g}. Lower {prefix}s_min or {prefix}delta"
        )
    if not 1 + delta < s_max < float("inf"):
        return (
            f"{prefix}s_max is {s_max}; it must exceed 1 + {prefix}delta = {1 + delta:g}. "
            f"Raise {prefix}s_max or lower {prefix}delta"
        )
    return None
