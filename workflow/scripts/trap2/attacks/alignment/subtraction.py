"""UNMASK on a stage: Task Arithmetic, then minus the protected model (MergeGuard, Section 7)."""

from __future__ import annotations

import numpy as np
import torch

from trap2.attacks.alignment.unmask import unmask
from trap2.attacks.stage import Goal, Merge, Stage
from trap2.updates.delta import Update, dense

Tensors = dict[str, torch.Tensor]


def unmasked(stage: Stage, factor: float, *, literal: bool) -> Merge:
    """Task Arithmetic with λ minus λ times the protected model, or its task vector.

    Args:
        stage: where the attack happens.
        factor: λ of both.
        literal: the formula as printed, over all the model's parameters; else only ΔW is taken.
    """
    base = {name: stage.base[name] for name, _ in stage.model.named_parameters()}
    updates = {task: _dense(base, update) for task, update in stage.updates.items()}
    merged = {
        name: weight + factor * sum(each[name] for each in updates.values() if name in each)
        for name, weight in base.items()
    }
    mine = updates[stage.protected]
    protected = {name: w + mine[name] if name in mine else w for name, w in base.items()}
    found = unmask(merged, protected, factor, None if literal else base)
    changed = base if literal else dict.fromkeys(n for each in updates.values() for n in each)
    return Merge({name: found[name] - base[name] for name in changed}, found={"factor": factor})


def swept(stage: Stage, step: float, largest: float, goal: Goal) -> Merge:
    """Task Arithmetic at its own coefficient minus c times the protected task vector (ours).

    Args:
        stage: where the attack happens.
        step: between the c that are tried, above 0.
        largest: c from minus this to this; a negative c adds.
        goal: what the best c has the most of, on validation.
    """
    merge = stage.merge_by_ta(stage.updates)
    mine = _dense(stage.base, stage.updates[stage.protected])
    count = round(largest / step)
    # From nothing outwards, so that of equals the smallest counts.
    factors = sorted((float(k) * step for k in range(-count, count + 1)), key=lambda c: (abs(c), c))
    values = [
        stage.goal(stage.accuracies_at([merge.delta, mine], [merge.scale, -c]), goal)
        for c in factors
    ]
    best = factors[int(np.argmax(values))]
    delta = {
        name: merge.scale * part.reshape(stage.base[name].shape)
        - best * mine.get(name, torch.zeros_like(stage.base[name]))
        for name, part in merge.delta.items()
    }
    return Merge(delta, found={"coefficient": merge.scale, "factor": best})


def _dense(base: Tensors, update: Update) -> Tensors:
    return {name: dense(update[name]).reshape(base[name].shape).to(base[name]) for name in update}
