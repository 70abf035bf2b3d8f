"""Estimates of diagonal scales of the heads' features from the pretrained weights.

No paper prints a formula (Merge-Lock's Appendix B says that the factors can be estimated); both are
ours.  ``ls`` is the anchor-guided attack's least squares restricted to a diagonal, each projection
on its own; ``paired`` has one factor for both projections of a pair, so that the function is kept.
"""

from __future__ import annotations

from typing import Literal

import torch

from trap2.attacks.alignment.blocks import PAIRS, head_blocks, held_heads
from trap2.protection.checkpoints import Weights, move_heads
from trap2.protection.transforms import Heads

Estimator = Literal["paired", "ls"]


def align_scales(
    weights: Weights, base: Weights, heads: Heads, *, estimator: Estimator = "paired"
) -> dict[str, torch.Tensor]:
    """Scale every feature of every head so that it is as close as can be to the pretrained one.

    Args:
        weights: the protected model's parameters by name; missing biases count as none.
        base: W0 by name.
        heads: attention modules and their numbers of heads; modules without all four projections
            stay.
        estimator: ``paired`` or ``ls``.

    Returns:
        All parameters, those of the attention modules new, in their data types.

    Raises:
        UpdateError: the base lacks a weight or has it in another shape.
    """
    aligned = dict(weights)
    for attention, count in held_heads(weights, heads).items():
        matrices = {}
        for pair in PAIRS:
            blocks = [head_blocks(weights, weights, attention, each, count) for each in pair]
            goals = [head_blocks(base, weights, attention, each, count) for each in pair]
            if estimator == "ls":
                found = [lone_factors(*each) for each in zip(blocks, goals, strict=True)]
            else:
                factors = paired_factors(*blocks, *goals)
                found = [factors, 1 / factors]
            for projection, factors in zip(pair, found, strict=True):
                matrices[projection] = torch.diag_embed(factors)
        aligned |= move_heads(weights, attention, matrices)
    return aligned


def lone_factors(rows: torch.Tensor, goals: torch.Tensor) -> torch.Tensor:
    """The least squares of f·w' to w₀, f = ⟨w', w₀⟩ / ⟨w', w'⟩; 1 where w' is zero.

    Args:
        rows: (…, d), w', float64.
        goals: (…, d), w₀.

    Returns:
        (…).
    """
    square = (rows * rows).sum(-1)
    return torch.where(square > 0, (rows * goals).sum(-1) / square, 1.0)


def paired_factors(
    first: torch.Tensor, second: torch.Tensor, first_goal: torch.Tensor, second_goal: torch.Tensor
) -> torch.Tensor:
    """The f > 0 with the least ‖f·p − p₀‖² + ‖r/f − r₀‖²; 1 where p or r is zero.

    It is a root of ‖p‖²f⁴ − ⟨p, p₀⟩f³ + ⟨r, r₀⟩f − ‖r‖² = 0, of which there is a positive one.

    Args:
        first: (…, d), p, float64.
        second: (…, e), r.
        first_goal: (…, d), p₀.
        second_goal: (…, e), r₀.

    Returns:
        (…).
    """
    a, b = (first * first).sum(-1), (first * first_goal).sum(-1)
    c, d = (second * second_goal).sum(-1), (second * second).sum(-1)
    usable = (a > 0) & (d > 0)
    a, b, c, d = (torch.where(usable, each, torch.ones(()).to(each)) for each in (a, b, c, d))
    roots = _roots(-b / a, torch.zeros_like(a), c / a, -d / a)
    # The least cost over f > 0 lies at a root.  The real part of a complex one, which is none,
    # cannot cost less and does no harm.
    candidates = torch.where(roots > 0, roots, torch.nan)
    a, b, c, d = (each[..., None] for each in (a, b, c, d))
    cost = a * candidates**2 - 2 * b * candidates + d / candidates**2 - 2 * c / candidates
    least = torch.where(cost.isnan(), torch.inf, cost).argmin(-1, keepdim=True)
    return torch.where(usable, candidates.gather(-1, least).squeeze(-1), 1.0)


def _roots(*coefficients: torch.Tensor) -> torch.Tensor:
    """Real parts (…, 4) of the roots of f⁴ + c₃f³ + c₂f² + c₁f + c₀, c (…) from c₃ on."""
    companion = torch.zeros(*coefficients[0].shape, 4, 4, dtype=torch.float64)
    companion[..., 1:, :-1] = torch.eye(3, dtype=torch.float64)
    companion[..., 0, :] = -torch.stack(coefficients, -1)
    # The coefficients stand in the first row, so that the units stand below the diagonal.
    found: torch.Tensor = torch.linalg.eigvals(companion).real
    return found
