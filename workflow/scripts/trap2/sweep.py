"""Applying a merged update at a coefficient s, and searching for s (paper, Appendix D.6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any

import torch
from torch import nn

from trap2.updates import UpdateError

NOMINAL = 1.0


class AppliedUpdate:
    """A context in which a model's weights can be set to W0 + s·ΔW, and after which they are W0.

        with AppliedUpdate(tower, merged) as applied:
            for s in (0.1, 0.2):
                applied.set(s)

    Setting s is one pass over each layer, in place and from W0, so that nothing accumulates.  On
    leaving, also by an exception, W0 is back bit for bit.

    Args:
        model: holds the base weights W0.
        merged: layer (a parameter's or buffer's name in ``model``) to ΔW at s = 1, shaped like
            the weight, or (d_out, rest) for a convolution.

    Raises:
        UpdateError: the model has no such layer, or the shapes differ.
    """

    def __init__(
        self,
        model: nn.Module,
        merged: Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]],
    ) -> None:
        # The tensors of a state dict share their memory with the model.
        weights = model.state_dict()
        pairs = merged.items() if isinstance(merged, Mapping) else merged
        self._layers: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for layer, delta in pairs:
            weight = _weight(weights, layer, delta)
            moved = delta.reshape(weight.shape).to(weight.device, weight.dtype)
            self._layers.append((weight, weight.clone(), moved))

    def set(self, s: float) -> None:
        """Set every layer to W0 + s·ΔW."""
        with torch.no_grad():
            for weight, base, delta in self._layers:
                torch.add(base, delta, alpha=s, out=weight)

    def restore(self) -> None:
        """Set every layer to W0, bit for bit."""
        with torch.no_grad():
            for weight, base, _ in self._layers:
                weight.copy_(base)

    def __enter__(self) -> AppliedUpdate:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.restore()


def _weight(weights: Mapping[str, torch.Tensor], layer: str, delta: torch.Tensor) -> torch.Tensor:
    if layer not in weights:
        raise UpdateError(f"layer {layer}: the model has no such weight; is it another backbone's?")
    weight = weights[layer]
    matrix = (weight.shape[0], weight[0].numel()) if weight.ndim > 2 else tuple(weight.shape)
    if tuple(delta.shape) not in {tuple(weight.shape), matrix}:
        raise UpdateError(
            f"layer {layer}: the update has shape {tuple(delta.shape)}, the base model's weight "
            f"{tuple(weight.shape)}; the update belongs to another base"
        )
    return weight


@dataclass(frozen=True)
class CoefficientSearch:
    """What a search of s found.

    Attributes:
        coefficient: the chosen s.
        value: the metric at it.
        trace: every (s, metric) in the order of evaluation.
    """

    coefficient: float
    value: float
    trace: tuple[tuple[float, float], ...]


def coefficient_grid(step: float, maximum: float) -> list[float]:
    """step, 2·step, … up to ``maximum``, each the nearest float to its decimal (0.3, never 0.30…4).

    Raises:
        ValueError: ``step`` or ``maximum`` is not positive and finite, or the grid is empty.
    """
    for name, value in (("step", step), ("maximum", maximum)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} = {value}: must be a positive number")
    exact, last = Decimal(str(step)), Decimal(str(maximum))
    if exact > last:
        raise ValueError(f"step = {step} is more than maximum = {maximum}: the grid is empty")
    return [float(exact * k) for k in range(1, int(last // exact) + 1)]


def search_coefficient(
    evaluate: Callable[[float], float], *, step: float, maximum: float, patience: int
) -> CoefficientSearch:
    """Search the coefficient s that maximises a validation metric (paper, Appendix D.6).

    Goes up the grid and stops after ``patience`` values in a row that do not improve on the best
    so far.  s = 1 is always evaluated: in its turn, or at the end when the search stopped before
    it or the grid lacks it.  Among equal values the smaller s wins.

    Args:
        evaluate: metric at s, larger is better.
        step: distance of the grid's values and its first value (paper: 0.1).
        maximum: last value of the grid (paper: 10.0).
        patience: values without improvement before stopping, at least 1 (paper: 10).

    Raises:
        ValueError: an argument is out of range, or the metric is NaN.
    """
    if patience < 1:
        raise ValueError(f"patience = {patience}: must be at least 1")
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
        raise ValueError(f"the metric is NaN at {where}")
    return float(value)


PUBLISHED_OPTION_GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "TIES": {"keep": (100, 90, 80, 70, 60, 50, 40, 30, 20, 10)},
    "DARE": {"drop": (1e-5, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)},
    "TIES+DARE": {
        "drop": (1e-5, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99),
        "keep": (100, 90, 80, 70, 60, 50, 40, 30, 20, 10),
    },
    "CART": {"rank_fraction": (0.04, 0.08, 0.16, 0.32)},
}
"""Second hyperparameters that the published code searches, in its order, after s."""


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
    options: dict[str, Any]
    value: float
    search: CoefficientSearch
    trace: tuple[tuple[dict[str, Any], float], ...]


def search_options(
    evaluate: Callable[[float, Mapping[str, Any]], float],
    initial: Mapping[str, Any],
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
    trace: list[tuple[dict[str, Any], float]] = []
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
    options: Mapping[str, Any], grids: Mapping[str, Sequence[Any]]
) -> Iterator[tuple[str, list[Any]]]:
    """Each option's values other than the one that it has, which has been evaluated."""
    for name, choices in grids.items():
        if name not in options:
            raise ValueError(f"option {name} of the grid has no initial value")
        yield name, [choice for choice in choices if choice != options[name]]
