"""What of an attention module's weights belongs to each head, as one matrix a head.

Head h of width d_h owns rows h·d_h … of q, k and v and their biases, and the same columns of out.
A matrix that multiplies them from the left is applied by
:func:`trap2.protection.checkpoints.move_heads`.
"""

from __future__ import annotations

import torch

from trap2.protection.adapters import base_weight, layer_name
from trap2.protection.checkpoints import Weights
from trap2.protection.transforms import PROJECTIONS, Heads

PAIRS = (("q_proj", "k_proj"), ("v_proj", "out_proj"))
"""Projections whose products the function depends on."""


def held_heads(weights: Weights, heads: Heads) -> dict[str, int]:
    """The attention modules of which all four projections are among the weights.

    An adapter may lack some; moving the others alone would tear a pair.
    """
    return {
        attention: count
        for attention, count in heads.items()
        if all(layer_name(attention, projection) in weights for projection in PROJECTIONS)
    }


def head_blocks(
    weights: Weights,
    like: Weights,
    attention: str,
    projection: str,
    heads: int,
    *,
    biases: bool = True,
) -> torch.Tensor:
    """One projection as a matrix a head, the head's features as its rows.

    Args:
        weights: parameters by name.
        like: the weights of the model that is aligned; those that it lacks are not asked for, and
            the shapes must be its own.
        attention: the attention module's name.
        projection: one of :data:`trap2.protection.transforms.PROJECTIONS`.
        heads: number of heads.
        biases: whether a bias, where ``like`` has one, is the last column; out has none.

    Returns:
        (heads, width, d_in), or (heads, width, d_in + 1) with biases, float64; of out the
        transposed columns, (heads, width, d_out).

    Raises:
        UpdateError: a weight is missing or of another shape than in ``like``.
    """
    layer, bias = layer_name(attention, projection), f"{attention}.{projection}.bias"
    weight = base_weight(weights, layer, tuple(like[layer].shape)).double()
    if projection == "out_proj":
        weight, biases = weight.mT, False
    if biases and bias in like:
        column = base_weight(weights, bias, tuple(like[bias].shape)).double()
        weight = torch.cat([weight, column[:, None]], 1)
    return weight.reshape(heads, -1, weight.shape[1])
