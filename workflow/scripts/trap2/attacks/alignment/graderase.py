"""GRADERASE: retraining with gradients that are blind to one direction (MergeGuard, Section 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from trap2.protection.adapters import base_weight

Loss = Callable[[Mapping[str, torch.Tensor], int], torch.Tensor]
"""From weights by name and a step's number to the loss, a scalar."""


def project_out(
    gradients: Mapping[str, torch.Tensor],
    direction: Mapping[str, torch.Tensor],
    *,
    per_tensor: bool = False,
) -> dict[str, torch.Tensor]:
    """Gradients without their part along v: g' = g − (⟨g, v⟩ / ‖v‖²)·v; g where v is zero.

    Args:
        gradients: g by name.
        direction: v by name, the same names.
        per_tensor: one product for each tensor instead of one over all of them (the formula).

    Returns:
        g' by name, in the gradients' data types.

    Raises:
        UpdateError: the direction lacks a tensor or has it in another shape.
    """
    along = {n: base_weight(direction, n, tuple(g.shape)).to(g) for n, g in gradients.items()}
    if per_tensor:
        shares = {n: _share([g], [along[n]]) for n, g in gradients.items()}
    else:
        shares = dict.fromkeys(gradients, _share(list(gradients.values()), list(along.values())))
    return {n: g - shares[n] * along[n] for n, g in gradients.items()}


def descend(
    loss: Loss,
    start: Mapping[str, torch.Tensor],
    steps: int,
    learning_rate: float,
    *,
    momentum: float = 0.0,
    direction: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """Stochastic gradient descent with a constant learning rate, blind to one direction.

    Projecting the gradient keeps the steps of SGD orthogonal to v, with momentum too; those of Adam
    would not be (the projection stands before its preconditioner).

    Args:
        loss: what is minimised.
        start: the weights to start from, by name; not changed.
        steps: how many, at least 0.
        learning_rate: above 0.
        momentum: of the gradients, in [0, 1).
        direction: v by name, which is projected out of every gradient; None for plain SGD.

    Returns:
        The weights after the last step.
    """
    weights = {name: weight.detach().clone() for name, weight in start.items()}
    speed = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for step in range(steps):
        leaves = {name: weight.requires_grad_() for name, weight in weights.items()}
        slopes = torch.autograd.grad(loss(leaves, step), list(leaves.values()))
        gradients = dict(zip(leaves, slopes, strict=True))
        if direction is not None:
            gradients = project_out(gradients, direction)
        speed = {name: momentum * speed[name] + gradients[name] for name in weights}
        weights = {n: w.detach() - learning_rate * speed[n] for n, w in weights.items()}
    return weights


def _share(gradients: list[torch.Tensor], direction: list[torch.Tensor]) -> torch.Tensor:
    """⟨g, v⟩ / ‖v‖² over several tensors, summed in float64; 0 where v is zero."""
    pairs = zip(gradients, direction, strict=True)
    product = torch.stack([(g.double() * v.double()).sum() for g, v in pairs]).sum()
    square = torch.stack([v.double().square().sum() for v in direction]).sum()
    share = torch.where(square > 0, product / square, 0.0)
    return share.to(gradients[0].dtype)
