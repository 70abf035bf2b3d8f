"""Two updates of different tasks, mixed (paper, Figures 3, 4 and 8, Table 6, Theorem A.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import permutations

import torch
from torch import nn

from trap2.evaluation.tasks import Bench
from trap2.models.scoring import score_record
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import LowRank, Update, UpdateError, dense_layers
from trap2.updates.records import MixRecord, PairRecord, PathPoint, Sides

PAIR_SCALE = 0.8
"""Coefficient of both updates in the pairwise merges of Figure 4 (Appendix D.6)."""


BETAS = tuple(k / 10 for k in range(11))
"""Where the paths of Figures 3 and 8 are evaluated; the midpoint is among them."""


def combination(first: Update, second: Update, a: float, b: float) -> dict[str, LowRank]:
    """a·ΔW_1 + b·ΔW_2 of two adapters, as factors of the added ranks, in float32.

    Raises:
        UpdateError: an update is not low-rank, or the two have different layers.
    """
    if set(first) != set(second):
        odd = sorted(set(first) ^ set(second))[0]
        raise UpdateError(f"layer {odd} is in one of the two adapters alone; they do not mix")
    mixed = {}
    for layer in first:
        one, two = first[layer], second[layer]
        if not isinstance(one, LowRank) or not isinstance(two, LowRank):
            raise UpdateError(f"layer {layer}: pairs are of adapters, and this update is dense")
        mixed[layer] = LowRank(
            torch.cat([a * one.B.float(), b * two.B.float()], dim=1),
            torch.cat([one.A.float(), two.A.float()], dim=0),
        )
    return mixed


def frobenius_norm(update: Mapping[str, LowRank]) -> float:
    """‖ΔW‖_F over all layers, from the factors in float64."""
    squares = 0.0
    for part in update.values():
        factors = part.to(torch.float64)
        squares += float(((factors.B.mT @ factors.B) * (factors.A @ factors.A.mT)).sum())
    return math.sqrt(max(squares, 0.0))


def mix_pair(
    model: nn.Module, protected: Update, unprotected: Update, measure: Callable[[], Sides]
) -> MixRecord:
    """One ordered pair: the path between the two updates, and their merge at 0.8.

    Args:
        model: holds W0, and holds it again afterwards.
        protected: ΔW_κ, at β = 0.
        unprotected: ΔW_τ, at β = 1.
        measure: scores the model, with the weights that it holds when called, on both tasks.

    Returns:
        ``distance`` ‖ΔW_τ − ΔW_κ‖_F; ``path``, a ``beta`` and a ``score`` each, at the weights
        W0 + ΔW_κ + β(ΔW_τ − ΔW_κ); ``merged``, the score at W0 + 0.8(ΔW_κ + ΔW_τ).
    """
    secant = combination(unprotected, protected, 1.0, -1.0)
    path: list[PathPoint] = []
    with AppliedUpdate(model, dense_layers(protected)) as start:
        start.set(1.0)
        with AppliedUpdate(model, dense_layers(secant)) as along:
            for beta in BETAS:
                along.set(beta)
                path.append({"beta": beta, "score": measure()})
    both = combination(protected, unprotected, 1.0, 1.0)
    with AppliedUpdate(model, dense_layers(both)) as merged:
        merged.set(PAIR_SCALE)
        score = measure()
    return {"distance": frobenius_norm(secant), "path": path, "merged": score}


def mix_pairs(
    bench: Bench,
    protected: Mapping[str, Update],
    unprotected: Mapping[str, Update],
    log: Callable[[str], None],
) -> list[PairRecord]:
    """Mix every task's protected adapter with every other task's unprotected one.

    Args:
        bench: the base model, which holds W0 again afterwards, with every task's test split.
        protected: every task's protected adapter.
        unprotected: every task's unprotected adapter.
        log: receives a line a pair.
    """
    pairs: list[PairRecord] = []
    for first, second in permutations(bench.tasks, 2):

        def measure(one: str = first, two: str = second) -> Sides:
            scores = (bench.tasks[task].score(bench.model, "test") for task in (one, two))
            on_first, on_second = map(score_record, scores)
            return {"protected": on_first, "unprotected": on_second}

        found = mix_pair(bench.model, protected[first], unprotected[second], measure)
        pairs.append({**found, "protected_task": first, "unprotected_task": second})
        log(f"{first} with {second}: distance {found['distance']:.3f}")
    return pairs
