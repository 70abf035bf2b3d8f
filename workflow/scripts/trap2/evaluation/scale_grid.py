"""The scales at which Figures 2, 5 and 7 look at an update."""

from __future__ import annotations


def averaging_counts(tasks: int) -> list[int]:
    """Numbers of averaged updates N in Figure 5, at least up to eight as in the paper."""
    return list(range(1, max(tasks, 8) + 1))


def scale_grid(tasks: int) -> list[float]:
    """All scales to score: 0 … 2 for Figure 2, finer around the nominal scale, and 1/N."""
    coarse = [round(0.1 * k, 10) for k in range(21)]
    fine = [0.85, 0.95, 1.05, 1.15]
    return sorted({*coarse, *fine, *(1 / n for n in averaging_counts(tasks))})
