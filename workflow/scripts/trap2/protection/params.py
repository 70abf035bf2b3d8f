"""PaRaMS: scaled head features and reordered hidden units (paper, Section 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from trap2.protection.adapters import base_weight
from trap2.protection.checkpoints import Weights
from trap2.protection.transforms import (
    Heads,
)


def permute_hidden_units(weights: Weights, base: Weights, heads: Heads) -> dict[str, torch.Tensor]:
    """Reorder every MLP's hidden units to be as far from the pretrained weights as can be.

    Args:
        weights: all the model's parameters W by name.
        base: W0 by name.
        heads: attention modules; the MLPs are those of their blocks.

    Returns:
        All parameters, those of the MLPs' hidden units in another order.

    Raises:
        UpdateError: the base is of another model.
    """
    protected = dict(weights)
    for attention in heads:
        first, second, _ = hidden_layers(attention)
        order = farthest_order(
            weights[first],
            weights[second],
            base_weight(base, first, tuple(weights[first].shape)),
            base_weight(base, second, tuple(weights[second].shape)),
        )
        protected |= reorder_hidden_units(weights, attention, order)
    return protected


def hidden_layers(attention: str) -> tuple[str, str, str]:
    """Names of the MLP in an attention module's block: its two weights, its first bias."""
    mlp = f"{attention.removesuffix('attn')}mlp"
    return f"{mlp}.c_fc.weight", f"{mlp}.c_proj.weight", f"{mlp}.c_fc.bias"


def reorder_hidden_units(
    weights: Weights, attention: str, order: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The weights of the MLP in an attention module's block with its hidden units in an order.

    Args:
        weights: parameters by name; the first layer's bias may be missing.
        attention: the attention module's name.
        order: (hidden,) int64, the unit that takes each place.
    """
    first, second, bias = hidden_layers(attention)
    moved = {first: weights[first][order], second: weights[second][:, order]}
    if bias in weights:
        moved[bias] = weights[bias][order]
    return moved


def farthest_order(
    first: torch.Tensor, second: torch.Tensor, base_first: torch.Tensor, base_second: torch.Tensor
) -> torch.Tensor:
    """The order of hidden units that maximises the distance of an MLP's weights to the base's.

    Maximising ‖W0 − permuted W‖² over both layers is minimising the sum of the inner products
    of paired units, a linear assignment problem (Merge-Lock paper, Eq. 12-14).

    Args:
        first: (hidden, d_in), W of the first layer.
        second: (d_out, hidden), W of the second layer.
        base_first: W0 of the first layer.
        base_second: W0 of the second layer.

    Returns:
        (hidden,) int64: the fine-tuned unit that takes each place.
    """
    from scipy.optimize import linear_sum_assignment

    units = torch.cat([first.double(), second.double().mT], 1)
    base_units = torch.cat([base_first.double(), base_second.double().mT], 1)
    _, order = linear_sum_assignment((base_units @ units.mT).numpy())
    return torch.from_numpy(np.asarray(order, dtype=np.int64))


@dataclass(frozen=True)
class DiagonalScales:
    """PaRaMS: T = D, independent uniform scales.

    Attributes:
        low: smallest scale, above 0.
        high: largest scale.
    """

    low: float = 0.5
    high: float = 1.5

    def draw(self, width: int, generator: np.random.Generator) -> np.ndarray:
        return np.diag(generator.uniform(self.low, self.high, width))
