"""The order of an MLP's hidden units that is nearest to another model's (Merge-Lock, Eq. 12-14).

PaRaMS orders them to be far from the pretrained weights; the attacker solves the same assignment
problem with the opposite sign.  The function is kept.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from trap2.protection.adapters import base_weight
from trap2.protection.checkpoints import Weights
from trap2.protection.params import hidden_layers, reorder_hidden_units
from trap2.protection.transforms import Heads

Cost = Literal["distance-bias", "distance", "cosine"]
"""What is maximised: inner products of both layers' weights and the first bias (arXiv 2502.00264),
of both layers' weights (Merge-Lock, Eq. 12-14), or the cosine of the first layer's rows (AGA)."""


def align_hidden_units(
    weights: Weights, reference: Weights, heads: Heads, *, cost: Cost = "distance-bias"
) -> dict[str, torch.Tensor]:
    """Reorder every MLP's hidden units to be as near to a reference as can be.

    Args:
        weights: the protected model's parameters by name.
        reference: W0 by name, or another model's.
        heads: attention modules; the MLPs are those of their blocks.  An MLP that is not among
            the weights stays.
        cost: what counts as near.

    Returns:
        All parameters, those of the MLPs' hidden units in another order.

    Raises:
        UpdateError: the reference lacks a weight or has it in another shape.
    """
    aligned = dict(weights)
    for attention in heads:
        first, second, _ = hidden_layers(attention)
        if first in weights and second in weights:
            units = _units(weights, weights, attention, cost)
            goals = _units(reference, weights, attention, cost)
            aligned |= reorder_hidden_units(weights, attention, nearest_order(units, goals))
    return aligned


def nearest_order(units: torch.Tensor, goals: torch.Tensor) -> torch.Tensor:
    """The order that maximises the sum of inner products of paired rows, a linear assignment.

    Args:
        units: (hidden, d), a row for each hidden unit.
        goals: (hidden, d), a row for each place.

    Returns:
        (hidden,) int64: the unit that takes each place.
    """
    from scipy.optimize import linear_sum_assignment

    _, order = linear_sum_assignment((goals @ units.mT).numpy(), maximize=True)
    return torch.from_numpy(np.asarray(order, dtype=np.int64))


def _units(weights: Weights, like: Weights, attention: str, cost: Cost) -> torch.Tensor:
    """What stands for each hidden unit, (hidden, d), float64."""
    names = hidden_layers(attention)
    first, second = (
        base_weight(weights, name, tuple(like[name].shape)).double() for name in names[:2]
    )
    if cost == "cosine":
        return torch.nn.functional.normalize(first, dim=1)
    parts = [first, second.mT]
    if cost == "distance-bias" and (bias := names[2]) in like:
        parts.append(base_weight(weights, bias, tuple(like[bias].shape)).double()[:, None])
    return torch.cat(parts, 1)
