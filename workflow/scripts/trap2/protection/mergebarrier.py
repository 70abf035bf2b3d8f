"""MergeBarrier's attention part (arXiv 2511.10712): the heads' leading directions flipped.

After a reading note; no code is public.  Of all orthogonal P that keep the products of q with k,
−I moves the weights farthest, and gives them away.  MergeBarrier flips only the leading
directions.  How many, and whether v and out are covered, is not known: both are options, and their
defaults are ours.  The other half of the method, another activation in the MLPs, is not public
enough to write down, so this is named as a part.
"""

from __future__ import annotations

import math

import torch

from trap2.protection.adapters import layer_name
from trap2.protection.checkpoints import Weights, move_heads
from trap2.protection.transforms import Heads

COVERS = ("qk", "qkvo")
"""Which pairs of projections are moved: q with k alone, or v with out as well (ours)."""


def flip_directions(
    weights: Weights, heads: Heads, share: float, cover: str = "qk"
) -> dict[str, torch.Tensor]:
    """Multiply the features of every head of q and k by P = I − 2·U·Uᵀ; the function stays.

    Args:
        weights: all the model's parameters W by name.
        heads: attention modules and their numbers of heads.
        share: 0 … 1, of a head's directions that are flipped, rounded down but at least one.
        cover: a name of :data:`COVERS`.

    Returns:
        All parameters, those of the projections new, in their data types.
    """
    protected = dict(weights)
    for attention, count in heads.items():
        q, k, v, out = (
            weights[layer_name(attention, name)].double()
            for name in ("q_proj", "k_proj", "v_proj", "out_proj")
        )
        flipped = max(1, math.floor(share * q.shape[0] / count + 1e-9))
        first = reflection(q, k, count, flipped)
        second = torch.eye(v.shape[0] // count, dtype=torch.float64).expand(count, -1, -1)
        if cover == "qkvo":
            second = reflection(v, out.mT, count, flipped)
        matrices = {"q_proj": first, "k_proj": first, "v_proj": second, "out_proj": second}
        protected |= move_heads(weights, attention, matrices)
    return protected


def reflection(first: torch.Tensor, second: torch.Tensor, heads: int, flipped: int) -> torch.Tensor:
    """P = I − 2·U·Uᵀ of every head, symmetric, orthogonal and its own inverse.

    U holds the leading eigenvectors of W1·W1ᵀ + W2·W2ᵀ of the head's rows; P moves the two by
    4·Σ of their eigenvalues (squared Frobenius norm).

    Args:
        first: (heads · width, d) W_q, or W_v; float64.
        second: (heads · width, d) W_k, or W_o transposed.
        heads: number of heads.
        flipped: number of directions, 1 … width.

    Returns:
        (heads, width, width).
    """
    rows = [weight.reshape(heads, -1, weight.shape[-1]) for weight in (first, second)]
    gram = torch.stack([part @ part.mT for part in rows]).sum(0)
    leading = torch.linalg.eigh(gram).eigenvectors[..., -flipped:]
    found: torch.Tensor = torch.eye(gram.shape[-1], dtype=gram.dtype) - 2 * leading @ leading.mT
    return found
