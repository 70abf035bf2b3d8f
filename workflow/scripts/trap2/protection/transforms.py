"""Paired transforms of attention projections, head by head (paper, Section 4 and Appendix D.5).

With row vectors x and one head's projections, T turns x·W_q into x·W_q·T and x·W_k into
x·W_k·T⁻ᵀ, which leaves q·kᵀ as it was; likewise W_v·T and T⁻¹·W_o leave the product of value and
output.  ``nn.Linear`` stores the transposes, so that here T acts on each head's *rows* of q, k
and v (weights and biases) and on its *columns* of out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import nn

from trap2.models.clip.attention import SeparateAttention

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


# Names of a use of randomness to its generator.
Draws = Callable[..., np.random.Generator]


Heads = Mapping[str, int]


class Transform(Protocol):
    """A distribution of invertible matrices T."""

    def draw(self, width: int, generator: np.random.Generator) -> np.ndarray:
        """One T, (width, width), float64."""


def attention_heads(model: nn.Module) -> dict[str, int]:
    """The attention modules of a vision model with their numbers of heads, in model order.

    Empty for a model without attention (ConvNeXt).
    """
    return {
        name: module.heads
        for name, module in model.named_modules()
        if isinstance(module, SeparateAttention)
    }


def head_matrices(
    transform: Transform, attention: str, heads: int, width: int, draws: Draws
) -> dict[str, torch.Tensor]:
    """What multiplies each head's rows (of out: columns) from the left, in float64.

    Args:
        transform: the distribution of T; one T a head for q and k, another for v and out.
        attention: the attention module's name, which names the randomness.
        heads: number of heads.
        width: features of one head.
        draws: gives the generators.

    Returns:
        For each of :data:`PROJECTIONS` a tensor (heads, width, width): Tᵀ for q and v, T⁻¹ for k
        and out.
    """
    found = {}
    for first, second in (("q_proj", "k_proj"), ("v_proj", "out_proj")):
        generator = draws(attention, f"{first} {second}")
        drawn = np.stack([transform.draw(width, generator) for _ in range(heads)])
        matrices = torch.from_numpy(drawn)
        found[first] = matrices.mT
        found[second] = torch.linalg.inv(matrices)
    return found


def apply_to_rows(matrices: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Multiply each head's rows by its matrix from the left.

    Args:
        matrices: (heads, width, width), float64.
        tensor: (heads · width, …), a weight or a bias; of any floating type.

    Returns:
        Like ``tensor``, float64.
    """
    rows = tensor.double().reshape(matrices.shape[0], matrices.shape[1], -1)
    return (matrices @ rows).reshape(tensor.shape)


def transform_weight(
    projection: str, matrices: Mapping[str, torch.Tensor], weight: torch.Tensor
) -> torch.Tensor:
    """One projection's weight (d_out, d_in) after its paired transform, float64."""
    if projection == "out_proj":
        return apply_to_rows(matrices[projection], weight.mT).mT
    return apply_to_rows(matrices[projection], weight)
