"""Applying a merged update at a coefficient s, and searching for s (paper, Appendix D.6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from trap2.merging.settings import GRID_LIMIT
from trap2.runtime.errors import Trap2Error

NOMINAL = 1.0


@dataclass(frozen=True)
class CoefficientSearch:
    """What a search of s found.

    Attributes:
        coefficient: the chosen s.
        value: the metric at it.
        trace: every (s, metric) in the order of evaluation, the metric as it was given.
    """

    coefficient: float
    value: float
    trace: tuple[tuple[float, float], ...]


def coefficient_grid(step: float, maximum: float) -> Iterator[float]:
    """step, 2·step, … up to ``maximum``, each the nearest float to its decimal (0.3, never 0.30…4).

    Raises:
        Trap2Error: ``step`` or ``maximum`` is not positive and finite, or the grid is empty or has
            more than :data:`~trap2.merging.settings.GRID_LIMIT` values.
    """
    for name, value in (("step", step), ("maximum", maximum)):
        if not (math.isfinite(value) and value > 0):
            raise Trap2Error(f"{name} = {value}: must be a positive number")
    exact, last = Decimal(str(step)), Decimal(str(maximum))
    if exact > last:
        raise Trap2Error(f"step = {step} is more than maximum = {maximum}: the grid is empty")
    if maximum / step > GRID_LIMIT:
        raise Trap2Error(
            f"step = {step} and maximum = {maximum}: a grid of {maximum / step:.3g} values; at "
            f"most {GRID_LIMIT} are searched. Take a larger step or a smaller maximum"
        )
    return (float(exact * k) for k in range(1, int(last // exact) + 1))


def search_coefficient(
    evaluate: Callable[[float], float], *, step: float, maximum: float, patience: int
) -> CoefficientSearch:
    """Search the coefficient s that maximises a validation metric (paper, Appendix D.6).

    Goes up the grid and stops after ``patience`` values in a row that do not improve on the best
    so far.  s = 1 is always evaluated: in its turn, or at the end when the search stopped before
    it or the grid lacks it.  Among equal values the smaller s wins.

    Args:
        evaluate: metric at s, larger is better; where an earlier s stays chosen whatever it is,
            anything from the metric up to that one's will do.
        step: distance of the grid's values and its first value (paper: 0.1).
        maximum: last value of the grid (paper: 10.0).
        patience: values without improvement before stopping, at least 1 (paper: 10).

    Raises:
        ValueError: an argument is out of range, or the metric is NaN.
    """
    if patience < 1:
        raise Trap2Error(f"patience = {patience}: must be at least 1")
    trace: list[tuple[float, float]] = []
    best, stale = -math.inf, 0
    for s in coefficient_grid(step, maximum):
        value = _number(evaluate(s), f"s = {s}")
        trace.append((s, value))
        improved = value > best
        best, stale = max(best, value), 0 if improved else stale + 1
        if stale >= patience:
            break
    if NOMINAL not in dict(trace):
        trace.append((NOMINAL, _number(evaluate(NOMINAL), f"s = {NOMINAL}")))
    coefficient, value = max(trace, key=lambda point: (point[1], -point[0]))
    return CoefficientSearch(coefficient, value, tuple(trace))


def _number(value: float, where: str) -> float:
    if math.isnan(value):
        raise Trap2Error(f"the metric is NaN at {where}")
    return float(value)


@dataclass(frozen=True)
class OptionSearch:
    """What a search of s and then of a method's options found.

    Attributes:
        coefficient: the chosen s.
        options: the chosen options, complete.
        value: the metric at them.
        search: the search of s, at the initial options.
        trace: every (options, metric) of the search of the options, at the chosen s.
    """

    coefficient: float
    options: dict[str, object]
    value: float
    search: CoefficientSearch
    trace: tuple[tuple[dict[str, object], float], ...]


def search_options(
    evaluate: Callable[[float, Mapping[str, object]], float],
    initial: Mapping[str, object],
    grids: Mapping[str, Sequence[Any]],
    *,
    step: float,
    maximum: float,
    patience: int,
) -> OptionSearch:
    """Coordinate-wise search as in the published code: s first, then one option after another.

    s is searched at the initial options and stays; each option then goes through its grid with
    the others fixed at their best so far.  An option changes only for a strictly better value.

    Args:
        evaluate: metric at (s, options), larger is better.
        initial: the options at which s is searched (keep 30, drop 1e-5, rank fraction 0.04: the
            methods' defaults).
        grids: values of each option to try, in order (:data:`PUBLISHED_OPTION_GRIDS`); none for
            a method without options.
        step: distance of the values of s.
        maximum: last value of s.
        patience: values of s without improvement before its search stops.

    Raises:
        ValueError: as :func:`search_coefficient`, or an option of a grid has no initial value.
    """
    options = dict(initial)
    search = search_coefficient(
        lambda s: evaluate(s, dict(initial)), step=step, maximum=maximum, patience=patience
    )
    value = search.value
    trace: list[tuple[dict[str, object], float]] = []
    for name, choices in _varying(options, grids):
        best = options[name]
        for choice in choices:
            tried = options | {name: choice}
            found = _number(evaluate(search.coefficient, tried), f"{name} = {choice}")
            trace.append((tried, found))
            if found > value:
                best, value = choice, found
        options[name] = best
    return OptionSearch(search.coefficient, options, value, search, tuple(trace))


def _varying(
    options: Mapping[str, object], grids: Mapping[str, Sequence[Any]]
) -> Iterator[tuple[str, list[Any]]]:
    """Each option's values other than the one that it has, which has been evaluated."""
    for name, choices in grids.items():
        if name not in options:
            raise Trap2Error(f"option {name} of the grid has no initial value")
        yield name, [choice for choice in choices if choice != options[name]]
