"""AdaMerging (arXiv:2310.02575): coefficients that lower the entropy of the predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from trap2.merging.regression import Tensor


def softmax_entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax over the last dimension of (…, classes) logits, in nats."""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def adamerging_objective(logits: Sequence[Tensor]) -> Tensor:
    """AdaMerging's objective: Σ over tasks of the batch's mean softmax entropy.

    Args:
        logits: one (batch, classes) a task, from unlabelled images of the task.
    """
    return torch.stack([softmax_entropy(task).mean() for task in logits]).sum()


def combined_weights(
    base: Mapping[str, Tensor], updates: Sequence[Mapping[str, Tensor]], coefficients: Tensor
) -> dict[str, Tensor]:
    """W0 + Σ_i λ_i ΔW_i, differentiable in λ, which is clamped to [0, 1].

    Args:
        base: layer to W0.
        updates: one dense update a task; a layer that it lacks is zero.
        coefficients: (1, N), one λ a task, or (layers, N), one a task and layer of ``base``.
    """
    rows = coefficients.clamp(0, 1).expand(len(base), -1)
    combined = {}
    for (layer, weight), row in zip(base.items(), rows, strict=True):
        parts = [r * u[layer] for r, u in zip(row, updates, strict=True) if layer in u]
        combined[layer] = weight + sum(parts)
    return combined


def adamerge(
    objective: Callable[[Tensor], Tensor],
    coefficients: Tensor,
    *,
    iterations: int = 500,
    learning_rate: float = 1e-3,
) -> tuple[Tensor, list[float]]:
    """Minimise AdaMerging's objective over the coefficients with Adam.

    Args:
        objective: from the unclamped coefficients to the objective on the next batches
            (:func:`combined_weights` clamps, so a coefficient outside [0, 1] has no gradient).
        coefficients: initial λ (0.3 in AdaMerging), (1, N) or (layers, N).
        iterations: steps, at least 0.
        learning_rate: Adam's, with betas (0.9, 0.999).

    Returns:
        The coefficients, unclamped, and the objective before each step.
    """
    raw = coefficients.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([raw], lr=learning_rate, betas=(0.9, 0.999))
    losses = []
    for _ in range(iterations):
        optimiser.zero_grad()
        loss = objective(raw)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return raw.detach(), losses
