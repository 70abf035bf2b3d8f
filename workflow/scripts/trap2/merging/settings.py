"""How merging coefficients are searched."""

from __future__ import annotations

from dataclasses import dataclass

from trap2.runtime.settings import setting

GRID_LIMIT = 100_000
"""The most values of a grid."""


@dataclass(frozen=True)
class Search:
    """The search of the merging coefficient on validation (Appendix D.6)."""

    step: float = setting("Step of the grid, and its first value.", 0.1, above=0, at_most=1_000_000)
    maximum: float = setting("Last value of the grid.", 10.0, above=0, at_most=1_000_000)
    patience: int = setting(
        "Grid values without improvement before the search stops.",
        10,
        at_least=1,
        at_most=GRID_LIMIT,
    )
    screening: float = setting(
        "Share of each task's validation images by which a coefficient may be given up early, four "
        "standard errors below the best; not exact, and 0 for none.",
        0.0,
        at_least=0,
        at_most=1,
    )
    second_hyperparameter: bool = setting(
        "Also search TIES' and DARE's ratio and CART's rank, as the authors' code does.", False
    )


def grid_problem(step: float, maximum: float, prefix: str = "") -> str | None:
    """Why a grid cannot be searched; None where it can.

    Args:
        step: its step and first value.
        maximum: its last value.
        prefix: what stands before a key in messages.
    """
    if step > maximum:
        return f"{prefix}step is {step}; it must not exceed {prefix}maximum = {maximum}"
    if maximum / step > GRID_LIMIT:
        return (
            f"{prefix}step is {step}, and the grid up to {prefix}maximum = {maximum} would have "
            f"more than {GRID_LIMIT} values. Raise {prefix}step or lower {prefix}maximum"
        )
    return None
