"""Post-hoc defenses of whole checkpoints: other weights, the same function.

PaRaMS scales the heads' features and reorders the hidden units of every MLP; Merge-Lock mixes the
heads' features (paper, Section 4; Merge-Lock paper, Eq. 5, 8, 9 and Appendix B).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from trap2.protect.adapters import base_weight, layer_name
from trap2.protect.transforms import (
    PROJECTIONS,
    Draws,
    Heads,
    Transform,
    apply_to_rows,
    head_matrices,
    transform_weight,
)

Weights = Mapping[str, torch.Tensor]


def transform_attention(
    transform: Transform, weights: Weights, heads: Heads, draws: Draws
) -> dict[str, torch.Tensor]:
    """Transform the q, k, v and out projections of every attention module, biases included.

    The products of q with k and of v with out do not change, and nor does the function.

    Args:
        transform: the distribution of T.
        weights: all the tower's parameters W by name.
        heads: attention modules and their numbers of heads.
        draws: gives the generators.

    Returns:
        All parameters, those of the attention modules new, in their data types.
    """
    protected = dict(weights)
    for attention, count in heads.items():
        width = weights[layer_name(attention, "q_proj")].shape[0] // count
        matrices = head_matrices(transform, attention, count, width, draws)
        for projection in PROJECTIONS:
            layer = layer_name(attention, projection)
            weight = weights[layer]
            moved = transform_weight(projection, matrices, weight)
            protected[layer] = moved.to(weight.dtype).contiguous()
            bias = f"{attention}.{projection}.bias"
            # The output's bias lies behind the product and stays.
            if bias in weights and projection != "out_proj":
                moved = apply_to_rows(matrices[projection], weights[bias])
                protected[bias] = moved.to(weights[bias].dtype)
    return protected


def permute_hidden_units(weights: Weights, base: Weights, heads: Heads) -> dict[str, torch.Tensor]:
    """Reorder every MLP's hidden units to be as far from the pretrained weights as can be.

    Args:
        weights: all the tower's parameters W by name.
        base: W0 by name.
        heads: attention modules; the MLPs are those of their blocks.

    Returns:
        All parameters, those of the MLPs' hidden units in another order.

    Raises:
        UpdateError: the base is of another model.
    """
    protected = dict(weights)
    for attention in heads:
        mlp = f"{attention.removesuffix('attn')}mlp"
        first, second = f"{mlp}.c_fc.weight", f"{mlp}.c_proj.weight"
        order = farthest_order(
            weights[first],
            weights[second],
            base_weight(base, first, tuple(weights[first].shape)),
            base_weight(base, second, tuple(weights[second].shape)),
        )
        protected[first] = weights[first][order]
        protected[second] = weights[second][:, order]
        if (bias := f"{mlp}.c_fc.bias") in weights:
            protected[bias] = weights[bias][order]
    return protected


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
