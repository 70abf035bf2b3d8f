"""Attacks that merge the updates as they are, and choose their coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn

from trap2.attacks.searches import Asked, axis, descend, evolve, search_grid
from trap2.attacks.stage import Delta, Goal, Merge, Stage
from trap2.merging.merger import Merger
from trap2.merging.search import search_coefficient
from trap2.models.layers import block_names
from trap2.runtime.catalogue import Options
from trap2.updates.delta import LayerUpdate, LowRank, Update, dense, dense_layers

NOMINAL = 1.0
"""The coefficient at which an update was fine-tuned."""

PENALTY = 3.0
"""Points of the protected task that a search gives up for a point that the others lack (ours)."""

_SMALL_GRID: Options = {
    **{"low": 0.0, "high": 1.25, "points": 6, "others_high": 0.5, "others_points": 2},
    **{"halvings": 1, "goal": "acquire"},
}
"""Where :func:`then_merge` searches two coefficients."""


def left_out(stage: Stage, _options: Options) -> Iterator[Merge]:
    """The others' merge without the protected update: what the attacker has anyway (ours)."""
    merge, _ = stage.left_out()
    yield Merge(merge.delta, merge.scale, {"protected": 0.0, "others": merge.scale})


def two(stage: Stage, options: Options) -> Iterator[Merge]:
    """One coefficient for the protected update and one for the others, on a grid (ours).

    The best point of the grid is then refined by coordinate descent from half the grid's steps.
    """
    yield merge_by_two(stage, stage.updates, options)


def then_merge(stage: Stage, updates: Mapping[str, Update], then: str) -> Merge:
    """What follows when an attacker has made something of the published updates.

    Args:
        stage: where.
        updates: by task, what he has made of them.
        then: ``one``, Task Arithmetic with one coefficient for all; or ``two``, one for the
            protected task's and one for the others', to acquire, on a small grid (ours).
    """
    if then == "one":
        return stage.merge_by_ta(updates)
    return merge_by_two(stage, updates, _SMALL_GRID)


def merge_by_two(stage: Stage, updates: Mapping[str, Update], options: Options) -> Merge:
    """The search of :func:`two` on any updates.

    Args:
        stage: where.
        updates: by task.
        options: those of the attack ``two``.
    """
    deltas = _protected_and_others(stage, updates)
    # Without the others there is nothing to keep: their axis begins above 0.
    axes = [
        axis(options["low"], options["high"], options["points"]),
        axis(0.0, options["others_high"], options["others_points"] + 1)[1:],
    ]
    worth = Worth(stage, deltas, options["goal"])
    asked = search_grid(Asked(worth), axes)
    steps = [(axes[0][1] - axes[0][0]) / 2, axes[1][0] / 2]
    descend(
        asked,
        steps,
        low=[options["low"], 0.0],
        high=[options["high"], options["others_high"]],
        halvings=options["halvings"],
    )
    found = dict(zip(("protected", "others"), worth.best, strict=True))
    return _merge(deltas, worth.best, {**found, **worth.facts()})


def pinned(stage: Stage, options: Options) -> Iterator[Merge]:
    """The protected update stays at 1, where it works; the others' coefficient is searched (ours).

    W0 + ΔW_protected + s Σ_others ΔW_i, s by the paper's search (Appendix D.6).
    """
    deltas, settings = _protected_and_others(stage, stage.updates), stage.search
    worth = Worth(stage, deltas, options["goal"])
    found = search_coefficient(
        lambda s: worth((NOMINAL, s)),
        step=settings.step,
        maximum=settings.maximum,
        patience=settings.patience,
    )
    chosen = [NOMINAL, found.coefficient]
    names = {"protected": NOMINAL, "others": found.coefficient}
    yield _merge(deltas, chosen, {**names, **worth.facts()})


def per_task(stage: Stage, options: Options) -> Iterator[Merge]:
    """One coefficient a task, by coordinate descent (ours)."""
    owners = _protected_first(stage)
    deltas = [dict(dense_layers(stage.updates[task])) for task in owners]
    worth = _search(stage, deltas, owners, options, _descend(options))
    found = dict(zip(owners, worth.best, strict=True))
    yield _merge(deltas, worth.best, {"coefficients": found, **worth.facts()})


def per_layer(stage: Stage, options: Options) -> Iterator[Merge]:
    """One coefficient a task and layer, by coordinate descent; a layer is a block (ours)."""
    yield _by_layer(stage, options, _descend(options), ranked=False)


def per_layer_cma(stage: Stage, options: Options) -> Iterator[Merge]:
    """One coefficient a task and layer, by CMA-ES; a layer is a block (ours)."""
    generator = stage.generator("cma")

    def search(asked: Asked) -> None:
        evolve(
            asked, options["step"], low=options["low"], high=options["high"], generator=generator
        )

    yield _by_layer(stage, options, search, ranked=True)


def norms_equalised(stage: Stage, _options: Options) -> Iterator[Merge]:
    """The protected update with the others' mean norm, layer by layer, then Task Arithmetic (ours).

    Whatever positive factors its layers were scaled by, the merge is the same.
    """
    mine = stage.updates[stage.protected]
    others = [stage.updates[task] for task in stage.others]
    equal = equalised(mine, others)
    yield stage.merge_by_ta({**stage.updates, stage.protected: equal})


def equalised(update: Update, others: Sequence[Update]) -> dict[str, LayerUpdate]:
    """An update with each layer's Frobenius norm set to the mean of the others' in that layer.

    A layer that is zero stays so, and one that no other update has stays as it is.

    Args:
        update: the one that is scaled; factors stay factors.
        others: the updates whose norms it gets; at least one.
    """
    found: dict[str, LayerUpdate] = {}
    for layer in update:
        part = update[layer]
        norms = [float(dense(other[layer]).norm()) for other in others if layer in other]
        own = float(dense(part).norm())
        factor = sum(norms) / len(norms) / own if norms and own else 1.0
        found[layer] = (
            LowRank(part.B * factor, part.A) if isinstance(part, LowRank) else (part * factor)
        )
    return found


def layer_of(model: nn.Module, weights: Iterable[str]) -> dict[str, str]:
    """The layer that each weight belongs to: its block's name, or ``outside`` of the blocks."""
    blocks = block_names(model)
    return {
        weight: next((name for name in blocks if weight.startswith(f"{name}.")), "outside")
        for weight in weights
    }


class Worth:
    """What a merge of some updates is worth on validation, and the best one that was asked.

    Searches climb ``graded``: to acquire, the protected task's accuracy minus :data:`PENALTY` times
    the points that the others lack.  The stage's goal itself forgets the protected task as soon as
    they lack one, so that a search would climb away from it.  What is chosen at last is best by the
    stage's goal, the first among equals.

    Args:
        stage: where.
        deltas: what each coefficient multiplies.
        goal: the stage's.
        ranked: whether the search compares all merges, and not each with the best one alone. If
            not, what cannot be the best any more is worth an upper bound, and is not scored on.
    """

    def __init__(
        self, stage: Stage, deltas: Sequence[Delta], goal: Goal, *, ranked: bool = False
    ) -> None:
        self.stage, self.deltas, self.goal = stage, deltas, goal
        self.values: dict[tuple[float, ...], float] = {}
        # The others first: what they lack tells the most.
        self._order = [*stage.others, stage.protected]
        self._ranked, self._beat = ranked, -math.inf

    def restart(self) -> None:
        """Let another search begin, which compares with none of the merges before."""
        self._beat = -math.inf

    def __call__(self, coefficients: Sequence[float]) -> float:
        """The graded worth at coefficients."""
        best = max(self.values.values(), default=-math.inf)

        def worthwhile(accuracies: Mapping[str, float]) -> bool:
            return (
                self._ranked
                or self._graded(accuracies) >= self._beat
                or self._value(accuracies) >= best
            )

        accuracies = self.stage.accuracies_if(worthwhile, self.deltas, coefficients, self._order)
        graded = self._graded(accuracies)
        self._beat = max(self._beat, graded)
        self.values[tuple(coefficients)] = self._value(accuracies)
        return graded

    def _value(self, accuracies: Mapping[str, float]) -> float:
        return self.stage.goal(accuracies, self.goal)

    def _graded(self, accuracies: Mapping[str, float]) -> float:
        value = self._value(accuracies)
        if self.goal == "mean":
            return value
        return accuracies[self.stage.protected] + PENALTY * min(0.0, value)

    @property
    def best(self) -> tuple[float, ...]:
        """The coefficients that are best by the stage's goal."""
        return max(self.values, key=self.values.__getitem__)

    def facts(self) -> dict[str, object]:
        """What is recorded of the search."""
        value = self.values[self.best]
        return {"goal": self.goal, "value": value, "evaluations": len(self.values)}


def _protected_and_others(stage: Stage, updates: Mapping[str, Update]) -> list[Delta]:
    mine = dict(dense_layers(updates[stage.protected]))
    return [mine, Merger([updates[task] for task in stage.others], "Full").merge("TA")]


def _protected_first(stage: Stage) -> list[str]:
    """The tasks; what a short search changes first is the protected one's."""
    return [stage.protected, *stage.others]


def _by_layer(
    stage: Stage, options: Options, search: Callable[[Asked], object], *, ranked: bool
) -> Merge:
    """A coefficient for every task and layer."""
    parts: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
    for task in _protected_first(stage):
        layers = layer_of(stage.model, stage.updates[task])
        for weight, delta in dense_layers(stage.updates[task]):
            parts.setdefault((task, layers[weight]), {})[weight] = delta
    deltas, owners = list(parts.values()), [task for task, _ in parts]
    worth = _search(stage, deltas, owners, options, search, ranked=ranked)
    found: dict[str, dict[str, float]] = {}
    for (task, layer), coefficient in zip(parts, worth.best, strict=True):
        found.setdefault(task, {})[layer] = coefficient
    return _merge(deltas, worth.best, {"coefficients": found, **worth.facts()})


def _search(
    stage: Stage,
    deltas: Sequence[Delta],
    owners: Sequence[str],
    options: Options,
    search: Callable[[Asked], object],
    *,
    ranked: bool = False,
) -> Worth:
    """Search from two starts, each with half the evaluations.

    One is where the others do well, with the protected update left out or at their s.  The other is
    where it works, at 1, with the others left out or at their s: between the two a protection has a
    valley, which no search crosses.
    """
    s = stage.left_out()[0].scale
    worth = Worth(stage, deltas, options["goal"], ranked=ranked)
    half = options["evaluations"] // 2
    for starts in (((0.0, s), (s, s)), ((NOMINAL, 0.0), (NOMINAL, s))):
        worth.restart()
        asked = Asked(worth, half)
        for mine, others in starts:
            point = [mine if owner == stage.protected else others for owner in owners]
            asked([min(max(c, options["low"]), options["high"]) for c in point])
        search(asked)
    return worth


def _descend(options: Options) -> Callable[[Asked], object]:
    def search(asked: Asked) -> None:
        n = len(asked.best)
        descend(
            asked,
            [options["step"]] * n,
            low=[options["low"]] * n,
            high=[options["high"]] * n,
            halvings=options["halvings"],
        )

    return search


def _merge(
    deltas: Sequence[Delta], coefficients: Sequence[float], found: Mapping[str, object]
) -> Merge:
    total: dict[str, torch.Tensor] = {}
    for delta, coefficient in zip(deltas, coefficients, strict=True):
        for layer, part in delta.items():
            moved = part * coefficient
            total[layer] = total[layer] + moved if layer in total else moved
    return Merge(total, found=found)
