"""The anchor-guided attack: W0 is inside every protected model and gives the transform away.

AGA (arXiv 2606.30360).  With a square invertible T the result does not depend on the protection:
it is the fine-tuned model without what the task vector has in the row space of each head.
"""

from __future__ import annotations

import torch

from trap2.attacks.alignment.blocks import PAIRS, head_blocks, held_heads
from trap2.attacks.alignment.permutation import align_hidden_units
from trap2.protection.checkpoints import Weights, move_heads
from trap2.protection.transforms import PROJECTIONS, Heads
from trap2.updates.delta import UpdateError

RIDGE = 1e-8
"""ε of the authors' code."""


def align_to_anchor(
    weights: Weights, base: Weights, heads: Heads, *, ridge: float = RIDGE, paired: bool = False
) -> dict[str, torch.Tensor]:
    """Map every head to the pretrained one by least squares; order hidden units by cosine.

    Args:
        weights: a model's parameters by name, protected or not; missing biases count as none.
        base: W0 by name.
        heads: attention modules and their numbers of heads; modules without all four projections
            stay, as MLPs that are not among the weights do.
        ridge: ε ≥ 0 of the least squares.
        paired: T from q and v alone, k and out by its inverse, which keeps the function (ours);
            else each projection by itself, as published, which does not.

    Returns:
        All parameters, those of attention modules and hidden units new, in their data types.

    Raises:
        UpdateError: the base lacks a weight or has it in another shape, a paired T has no
            inverse, or the ridge is 0 and a head's weights have dependent rows.
    """
    aligned = align_hidden_units(weights, base, heads, cost="cosine")
    for attention, count in held_heads(weights, heads).items():
        projections = [pair[0] for pair in PAIRS] if paired else PROJECTIONS
        matrices = {}
        for each in projections:
            # The regression does not see the bias, which then moves with the weight.
            rows = head_blocks(weights, weights, attention, each, count, biases=False)
            goals = head_blocks(base, weights, attention, each, count, biases=False)
            matrices[each] = least_squares(rows, goals, ridge)
        if paired:
            matrices |= {pair[1]: _inverse(matrices[pair[0]].mT, attention) for pair in PAIRS}
        aligned |= move_heads(weights, attention, matrices)
    return aligned


def least_squares(rows: torch.Tensor, goals: torch.Tensor, ridge: float) -> torch.Tensor:
    """Tᵀ of T = (X'ᵀX' + εI)⁻¹X'ᵀX₀ with X' and X₀ the transposed rows.

    Args:
        rows: (…, width, d), float64.
        goals: (…, width, d).
        ridge: ε.

    Returns:
        (…, width, width): what multiplies the rows from the left.

    Raises:
        UpdateError: X'ᵀX' + εI has no inverse.
    """
    gram = rows @ rows.mT + ridge * torch.eye(rows.shape[-2], dtype=rows.dtype)
    found, fault = torch.linalg.solve_ex(gram, rows @ goals.mT)
    if fault.any() or not found.isfinite().all():
        raise UpdateError(
            f"ridge = {ridge:g}: a head's weights have dependent rows, so that the least squares "
            f"have no single solution; set a ridge above 0, as {RIDGE:g}"
        )
    solved: torch.Tensor = found.mT
    return solved


def _inverse(matrices: torch.Tensor, attention: str) -> torch.Tensor:
    inverse: torch.Tensor
    inverse, fault = torch.linalg.inv_ex(matrices)
    if fault.any() or not inverse.isfinite().all():
        raise UpdateError(
            f"{attention}: the least squares' T of a head has no inverse, so that no paired map to "
            "the base exists; use the unpaired form"
        )
    return inverse
