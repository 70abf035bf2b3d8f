"""Post-hoc defenses of whole checkpoints: other weights, the same function.

PaRaMS scales the heads' features and reorders the hidden units of every MLP; Merge-Lock mixes the
heads' features (paper, Section 4; Merge-Lock paper, Eq. 5, 8, 9 and Appendix B).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from trap2.protection.adapters import layer_name
from trap2.protection.transforms import (
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
        weights: all the model's parameters W by name.
        heads: attention modules and their numbers of heads.
        draws: gives the generators.

    Returns:
        All parameters, those of the attention modules new, in their data types.
    """
    protected = dict(weights)
    for attention, count in heads.items():
        width = weights[layer_name(attention, "q_proj")].shape[0] // count
        matrices = head_matrices(transform, attention, count, width, draws)
        protected |= move_heads(weights, attention, matrices)
    return protected


def move_heads(
    weights: Weights, attention: str, matrices: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Multiply the heads' features of one attention module by matrices.

    Args:
        weights: parameters by name; the biases may be missing.
        attention: the module's name.
        matrices: for each of :data:`~trap2.protection.transforms.PROJECTIONS` (heads, width,
            width), float64: what multiplies each head's rows (of out: columns) from the left.

    Returns:
        The module's weights and biases anew, in their data types.
    """
    moved = {}
    for projection in PROJECTIONS:
        layer = layer_name(attention, projection)
        weight = transform_weight(projection, matrices, weights[layer])
        moved[layer] = weight.to(weights[layer].dtype).contiguous()
        bias = f"{attention}.{projection}.bias"
        # The output's bias lies behind the product and stays.
        if bias in weights and projection != "out_proj":
            rows = apply_to_rows(matrices[projection], weights[bias])
            moved[bias] = rows.to(weights[bias].dtype)
    return moved
