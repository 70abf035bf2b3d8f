"""Rotation alignment: the orthogonal matrices that bring two models' heads closest together.

Merge-Lock paper, Eq. 10 and 11, after arXiv 2502.00264.  The reference is another fine-tuned model
(R₂ = I); the function of the aligned model is kept.
"""

from __future__ import annotations

import torch

from trap2.attacks.alignment.blocks import PAIRS, head_blocks, held_heads
from trap2.attacks.alignment.scales import paired_factors
from trap2.protection.checkpoints import Weights, move_heads
from trap2.protection.transforms import Heads


def align_rotation(
    weights: Weights,
    reference: Weights,
    heads: Heads,
    *,
    proper: bool = False,
    scaled: bool = False,
) -> dict[str, torch.Tensor]:
    """Rotate every head of a model so that it is as close as can be to another model's.

    One R a head for q and k, another for v and out: q, k, v ← RᵀW and Rᵀb, out ← W R.

    Args:
        weights: the protected model's parameters by name; missing biases count as none.
        reference: another model's, of the same shapes.
        heads: attention modules and their numbers of heads; modules without all four projections
            stay.
        proper: whether R must have determinant 1.  The papers say "rotation" and "orthogonal";
            their code takes any orthogonal matrix.
        scaled: whether each rotated head is then scaled as well, q by k and k by 1/k (v, out
            likewise), the option ``use_scaling`` of arXiv 2502.00264's code, positive k alone.

    Returns:
        All parameters, those of the attention modules new, in their data types.

    Raises:
        UpdateError: the reference lacks a weight or has it in another shape.
    """
    aligned = dict(weights)
    for attention, count in held_heads(weights, heads).items():
        matrices = {}
        for pair in PAIRS:
            blocks = [head_blocks(weights, weights, attention, each, count) for each in pair]
            goals = [head_blocks(reference, weights, attention, each, count) for each in pair]
            turn = rotation(torch.cat(blocks, -1), torch.cat(goals, -1), proper=proper).mT
            factor = _factors(turn, blocks, goals) if scaled else torch.ones(())
            matrices[pair[0]], matrices[pair[1]] = turn * factor, turn / factor
        aligned |= move_heads(weights, attention, matrices)
    return aligned


def rotation(first: torch.Tensor, second: torch.Tensor, *, proper: bool = False) -> torch.Tensor:
    """R = UVᵀ of M = X₁X₂ᵀ = UΣVᵀ, which minimises ‖RᵀX₁ − X₂‖ over orthogonal R (Kabsch).

    Args:
        first: (…, width, d), X₁.
        second: (…, width, d), X₂.
        proper: whether det R must be 1: the last singular direction is flipped where it is −1.

    Returns:
        (…, width, width).
    """
    u, _, vt = torch.linalg.svd(first @ second.mT)
    if proper:
        sign = torch.linalg.det(u @ vt).sign()
        u = torch.cat([u[..., :-1], u[..., -1:] * sign[..., None, None]], -1)
    found: torch.Tensor = u @ vt
    return found


def _factors(
    turn: torch.Tensor, blocks: list[torch.Tensor], goals: list[torch.Tensor]
) -> torch.Tensor:
    """One positive factor a head, (heads, 1, 1)."""
    flat = [(turn @ block).flatten(1) for block in blocks] + [goal.flatten(1) for goal in goals]
    return paired_factors(*flat)[:, None, None]
