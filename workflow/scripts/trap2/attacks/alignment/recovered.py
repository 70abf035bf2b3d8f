"""From a published update to the one that an alignment recovers, and its merge.

A whole model's heads and MLPs are aligned and its new update is their difference to W0.  An adapter
is aligned by its W0 + BA, without biases, which it cannot carry; where it adapts all four
projections of an attention module its recovered update is dense, elsewhere as it was published.
Its MLPs stay: the order of hidden units needs the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from trap2.attacks.coefficients import then_merge
from trap2.attacks.stage import Merge, Stage
from trap2.protection.checkpoints import Weights
from trap2.protection.params import hidden_layers
from trap2.updates.delta import LayerUpdate, Update, dense

Align = Callable[[Weights], Mapping[str, torch.Tensor]]
"""From a model's weights to aligned ones."""


def merge_aligned(stage: Stage, align: Align, tasks: Sequence[str], then: str) -> Merge:
    """Align some tasks' models, then merge all by Task Arithmetic.

    Args:
        stage: where the attack happens.
        align: what is done to each of the models.
        tasks: whose models.
        then: how many coefficients are searched (:func:`trap2.attacks.coefficients.then_merge`).
    """
    aligned = {task: recovered(stage, stage.updates[task], align) for task in tasks}
    return then_merge(stage, {**stage.updates, **aligned}, then)


def recovered(stage: Stage, update: Update, align: Align) -> Update:
    """The update W − W0 of an aligned model W; layers that stay are as they were."""
    weights = weights_of(stage, update)
    moved: dict[str, LayerUpdate] = {layer: update[layer] for layer in update}
    for layer, weight in align(weights).items():
        if not torch.equal(weight, weights[layer]):
            moved[layer] = (weight - _base(stage, layer)).to(stage.base[layer])
    return moved


def weights_of(stage: Stage, update: Update) -> dict[str, torch.Tensor]:
    """W0 + ΔW of the attention modules and MLPs that an update holds, by name, float64."""
    return {
        layer: _base(stage, layer) + _moved(stage, update, layer) for layer in _held(stage, update)
    }


def mean_of_others(stage: Stage, like: Update) -> dict[str, torch.Tensor]:
    """The mean of the unprotected models, W0 + mean ΔW, of the layers of an update (ours).

    With one partner it is that partner, Merge-Lock's reference.
    """
    found = {}
    for layer in _held(stage, like):
        parts = [
            _moved(stage, stage.updates[task], layer)
            for task in stage.others
            if layer in stage.updates[task]
        ]
        total = torch.stack(parts).sum(0) if parts else torch.zeros(())
        found[layer] = _base(stage, layer) + total / len(stage.others)
    return found


def base_of(stage: Stage) -> dict[str, torch.Tensor]:
    """W0 by name, where alignments compute."""
    return {layer: weight.cpu() for layer, weight in stage.base.items()}


def _held(stage: Stage, update: Update) -> list[str]:
    prefixes = []
    for attention in stage.heads:
        prefixes.append(f"{attention}.")
        first, _, bias = hidden_layers(attention)
        if bias in update:
            prefixes.append(first.removesuffix("c_fc.weight"))
    return [layer for layer in update if layer.startswith(tuple(prefixes))]


def _base(stage: Stage, layer: str) -> torch.Tensor:
    found: torch.Tensor = stage.base[layer].cpu().double()
    return found


def _moved(stage: Stage, update: Update, layer: str) -> torch.Tensor:
    return dense(update[layer]).cpu().double().reshape(stage.base[layer].shape)
