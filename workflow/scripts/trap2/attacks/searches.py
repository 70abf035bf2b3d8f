"""Searches of several coefficients by what a merge is worth: a grid, coordinate descent, CMA-ES.

Each takes a function of the coefficients, larger is better, and asks it once a point.  Accuracies
on some hundred images are steps, so nothing here uses a gradient, and among equal values the point
that came first wins.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trap2.runtime.errors import Trap2Error

Worth = Callable[[Sequence[float]], float]
"""What a merge at these coefficients is worth; larger is better."""

Point = tuple[float, ...]

_DECIMALS = 9  # Points that differ by rounding alone are one.


class _Spent(Exception):
    """All evaluations are used."""


@dataclass
class Asked:
    """A function that is asked once a point, and the best point so far.

    Attributes:
        worth: the function.
        limit: evaluations after which it is asked no more; 0 is no limit.
    """

    worth: Worth
    limit: int = 0
    known: dict[Point, float] = field(default_factory=dict)
    best: Point = ()

    def __call__(self, point: Sequence[float]) -> float:
        """The value at a point.

        Raises:
            Trap2Error: it is NaN.
        """
        key = tuple(round(float(c), _DECIMALS) + 0.0 for c in point)
        if key not in self.known:
            if self.limit and len(self.known) >= self.limit:
                raise _Spent
            value = float(self.worth(key))
            if math.isnan(value):
                raise Trap2Error(f"the metric is NaN at the coefficients {key}")
            self.known[key] = value
            if not self.best or value > self.known[self.best]:
                self.best = key
        return self.known[key]

    @property
    def value(self) -> float:
        """The best value so far."""
        return self.known[self.best]

    @property
    def evaluations(self) -> int:
        """How many points were asked."""
        return len(self.known)


def axis(low: float, high: float, points: int) -> list[float]:
    """``points`` values from ``low`` to ``high``, both included.

    Raises:
        Trap2Error: fewer than 2 points, or ``low`` is not below ``high``.
    """
    if points < 2 or not low < high:
        raise Trap2Error(
            f"low = {low:g}, high = {high:g}, points = {points}: a grid has at least 2 points, and "
            "low is below high"
        )
    step = (high - low) / (points - 1)
    return [round(low + step * k, _DECIMALS) for k in range(points)]


def search_grid(asked: Asked, axes: Sequence[Sequence[float]]) -> Asked:
    """Ask every point of a grid, the last axis fastest."""
    try:
        for point in itertools.product(*axes):
            asked(point)
    except _Spent:
        pass
    return asked


def descend(
    asked: Asked,
    steps: Sequence[float],
    *,
    low: Sequence[float],
    high: Sequence[float],
    halvings: int,
) -> Asked:
    """Coordinate descent from the best point so far (compass search; Kolda et al., 2003).

    One coordinate after another moves by its step, up and then down, and on in the same direction
    as long as the value rises.  A round in which none moved halves the steps.

    Args:
        asked: the function, with at least one point asked.
        steps: the first step of each coordinate, positive.
        low: the least value of each coordinate.
        high: the largest.
        halvings: how often the steps are halved before the search ends.

    Returns:
        ``asked``.
    """
    steps = list(steps)
    try:
        for _ in range(halvings + 1):
            moved = True
            while moved:
                # Every coordinate has its turn, so no any() over a generator.
                moves = [_moved(asked, i, steps[i], low[i], high[i]) for i in range(len(steps))]
                moved = any(moves)
            steps = [step / 2 for step in steps]
    except _Spent:
        pass
    return asked


def _moved(asked: Asked, place: int, step: float, low: float, high: float) -> bool:
    """Move one coordinate of the best point as far as that helps; whether it did."""
    start = asked.best
    for direction in (step, -step):
        while True:
            before, point = asked.best, list(asked.best)
            point[place] = min(max(point[place] + direction, low), high)
            asked(point)
            if asked.best == before:
                break
        if asked.best != start:
            return True
    return False


def evolve(
    asked: Asked,
    step: float,
    *,
    low: float,
    high: float,
    generator: np.random.Generator,
) -> Asked:
    """CMA-ES (Hansen, 2016, arXiv:1604.00772) from the best point so far, by the ``cma`` package.

    A best point outside the range begins at the nearest one inside.  The search ends with the
    evaluations of ``asked``, or when the package's own rules say so.  All draws are the
    generator's; NumPy's global state is left alone.

    Args:
        asked: the function, with one point asked, and a limit.
        step: the first standard deviation σ0 of every coordinate.
        low: the least value of every coordinate.
        high: the largest.
        generator: draws.

    Returns:
        ``asked``.

    Raises:
        Trap2Error: ``asked`` has no limit.
    """
    import cma

    if not asked.limit:
        raise Trap2Error("evaluations = 0: CMA-ES needs a limit of at least 1")
    options: dict[str, Any] = {
        "bounds": [low, high],
        "randn": lambda *shape: generator.standard_normal(shape),
        "seed": math.nan,  # with the generator's numbers, nothing is left to seed
        "verbose": -9,
        "verb_log": 0,
        "tolflatfitness": 10,  # accuracies are steps: a flat generation is no end
        "tolfun": 0,
        "tolfunhist": 0,
    }
    start = [min(max(c, low), high) for c in asked.best]
    strategy = cma.CMAEvolutionStrategy(start, step, options)
    try:
        while not strategy.stop():
            points = strategy.ask()
            strategy.tell(points, [-asked(point) for point in points])
    except _Spent:
        pass
    return asked
