"""UNMASK: subtract the protected model from the merge (MergeGuard paper, Section 7).

After Task Arithmetic with the same factor λ the protected task vector cancels, whatever it was: the
literal formula gives (1 − λ)θ_0 + λΣτ of the others, its reading by task vectors θ_0 + λΣτ.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from trap2.protection.adapters import base_weight


def unmask(
    merged: Mapping[str, torch.Tensor],
    protected: Mapping[str, torch.Tensor],
    factor: float,
    base: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """θ_merge − λθ̂, or θ_merge − λ(θ̂ − θ_0) where a base is given.

    Args:
        merged: θ_merge by name.
        protected: θ̂ by name, the same weights.
        factor: λ.
        base: θ_0 by name, for the reading by task vectors; None for the literal formula.

    Returns:
        The attacker's weights by name.

    Raises:
        UpdateError: a weight is missing or of another shape.
    """
    found = {}
    for name, weight in merged.items():
        taken = base_weight(protected, name, tuple(weight.shape))
        if base is not None:
            taken = taken - base_weight(base, name, tuple(weight.shape))
        found[name] = weight - factor * taken
    return found
