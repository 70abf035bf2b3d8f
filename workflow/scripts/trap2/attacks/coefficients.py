"""Attacks that merge the updates as they are, and choose their coefficients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn

from trap2.attacks.searches import Asked, Worth, axis, descend, evolve, search_grid
from trap2.attacks.stage import Delta, Merge, Stage
from trap2.merging.merger import Merger
from trap2.merging.search import search_coefficient
from trap2.models.families import FAMILIES
from trap2.models.layers import family
from trap2.runtime.catalogue import Options
from trap2.updates.delta import LayerUpdate, LowRank, Update, dense, dense_layers

NOMINAL = 1.0
"""The coefficient at which an update was fine-tuned."""


def left_out(stage: Stage, _options: Options) -> Iterator[Merge]:
    """The others' merge without the protected update: what the attacker has anyway (ours)."""
    merge, _ = stage.left_out()
    yield Merge(merge.delta, merge.scale, {"protected": 0.0, "others": merge.scale})


def two(stage: Stage, options: Options) -> Iterator[Merge]:
    """One coefficient for the protected update and one for the others, on a grid (ours).

    The best point of the grid is then refined by coordinate descent from half the grid's steps.
    """
    deltas = _protected_and_others(stage)
    # Without the others there is nothing to keep: their axis begins above 0.
    axes = [
        axis(options["low"], options["high"], options["points"]),
        axis(0.0, options["others_high"], options["others_points"] + 1)[1:],
    ]
    asked = search_grid(Asked(_worth(stage, deltas, options)), axes)
    steps = [(axes[0][1] - axes[0][0]) / 2, axes[1][0] / 2]
    descend(
        asked,
        steps,
        low=[options["low"], 0.0],
        high=[options["high"], options["others_high"]],
        halvings=options["halvings"],
    )
    found = dict(zip(("protected", "others"), asked.best, strict=True))
    yield _merge(deltas, asked.best, {**found, **_facts(asked, options)})


def pinned(stage: Stage, options: Options) -> Iterator[Merge]:
    """The protected update stays at 1, where it works; the others' coefficient is searched (ours).

    W0 + ΔW_protected + s Σ_others ΔW_i, s by the paper's search (Appendix D.6).
    """
    deltas, settings = _protected_and_others(stage), stage.search
    asked = Asked(_worth(stage, deltas, options))
    found = search_coefficient(
        lambda s: asked([NOMINAL, s]),
        step=settings.step,
        maximum=settings.maximum,
        patience=settings.patience,
    )
    chosen = [NOMINAL, found.coefficient]
    names = {"protected": NOMINAL, "others": found.coefficient}
    yield _merge(deltas, chosen, {**names, **_facts(asked, options)})


def per_task(stage: Stage, options: Options) -> Iterator[Merge]:
    """One coefficient a task, by coordinate descent (ours)."""
    deltas = [dict(dense_layers(update)) for update in stage.updates.values()]
    owners = list(stage.updates)
    asked = _started(stage, deltas, owners, options)
    _descend(asked, owners, options)
    found = dict(zip(owners, asked.best, strict=True))
    yield _merge(deltas, asked.best, {"coefficients": found, **_facts(asked, options)})


def per_layer(stage: Stage, options: Options) -> Iterator[Merge]:
    """One coefficient a task and layer, by coordinate descent; a layer is a block (ours)."""
    deltas, owners, names = _by_layer(stage)
    asked = _started(stage, deltas, owners, options)
    _descend(asked, owners, options)
    yield _merge(deltas, asked.best, {**_named(names, asked), **_facts(asked, options)})


def per_layer_cma(stage: Stage, options: Options) -> Iterator[Merge]:
    """One coefficient a task and layer, by CMA-ES; a layer is a block (ours)."""
    deltas, owners, names = _by_layer(stage)
    asked = _started(stage, deltas, owners, options)
    generator = stage.generator("cma")
    evolve(asked, options["step"], low=options["low"], high=options["high"], generator=generator)
    yield _merge(deltas, asked.best, {**_named(names, asked), **_facts(asked, options)})


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
    pattern = FAMILIES[family(model)].blocks
    blocks = [name for name, _ in model.named_modules() if pattern.fullmatch(name)]
    return {
        weight: next((name for name in blocks if weight.startswith(f"{name}.")), "outside")
        for weight in weights
    }


def _protected_and_others(stage: Stage) -> list[Delta]:
    mine = dict(dense_layers(stage.updates[stage.protected]))
    return [mine, Merger([stage.updates[task] for task in stage.others], "Full").merge("TA")]


def _by_layer(stage: Stage) -> tuple[list[Delta], list[str], list[tuple[str, str]]]:
    """Every task's update in parts, whose each part is, and its task and layer."""
    parts: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
    for task, update in stage.updates.items():
        layers = layer_of(stage.model, update)
        for weight, delta in dense_layers(update):
            parts.setdefault((task, layers[weight]), {})[weight] = delta
    return list(parts.values()), [task for task, _ in parts], list(parts)


def _worth(stage: Stage, deltas: Sequence[Delta], options: Options) -> Worth:
    return lambda c: stage.goal(stage.accuracies_at(deltas, c), options["goal"])


def _started(
    stage: Stage, deltas: Sequence[Delta], owners: Sequence[str], options: Options
) -> Asked:
    """Asked where a search may start: the protected update left out, at the others' s, and at 1."""
    s = stage.left_out()[0].scale
    asked = Asked(_worth(stage, deltas, options), options["evaluations"])
    for mine in (0.0, s, NOMINAL):
        asked([mine if owner == stage.protected else s for owner in owners])
    return asked


def _descend(asked: Asked, owners: Sequence[str], options: Options) -> None:
    n = len(owners)
    descend(
        asked,
        [options["step"]] * n,
        low=[options["low"]] * n,
        high=[options["high"]] * n,
        halvings=options["halvings"],
    )


def _named(names: Sequence[tuple[str, str]], asked: Asked) -> dict[str, object]:
    found: dict[str, dict[str, float]] = {}
    for (task, layer), coefficient in zip(names, asked.best, strict=True):
        found.setdefault(task, {})[layer] = coefficient
    return {"coefficients": found}


def _facts(asked: Asked, options: Options) -> dict[str, object]:
    return {"goal": options["goal"], "value": asked.value, "evaluations": asked.evaluations}


def _merge(
    deltas: Sequence[Delta], coefficients: Sequence[float], found: Mapping[str, object]
) -> Merge:
    total: dict[str, torch.Tensor] = {}
    for delta, coefficient in zip(deltas, coefficients, strict=True):
        for layer, part in delta.items():
            moved = part * coefficient
            total[layer] = total[layer] + moved if layer in total else moved
    return Merge(total, found=found)
