"""Anchor-repulsive fine-tuning, ARF (arXiv 2606.30360): away from W0 in the attention projections.

A linear transform of the heads' features can be undone by regressing it on the pretrained weights,
as long as the fine-tuned ones lie near them.  ARF fine-tunes until every attention projection lies
at a margin, and transforms afterwards.  After a reading note of the paper, which prints min(0, ·):
minimised, that rewards distance without bound and does nothing inside the margin.  The behaviour
that it describes is max(0, ·), which is what stands here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from trap2.protection.objective import LossAt, Surroundings
from trap2.protection.transforms import PROJECTIONS
from trap2.runtime.errors import Trap2Error


@dataclass(frozen=True)
class AnchorRepulsion:
    """L(θ) + λ · Σ max(0, ρ‖θ0‖ − ‖θ − θ0‖), over the weights of q, k, v and out of every layer.

    Attributes:
        lambda_: λ_dist ≥ 0.
        rho: ρ > 0, the margin relative to ‖θ0‖; Frobenius norms of each projection's weight.
        surroundings: the training's, set by :meth:`within`.

    Raises:
        Trap2Error: λ or ρ is out of its range.
    """

    lambda_: float
    rho: float = 0.05
    surroundings: Surroundings | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise Trap2Error(f"λ is {self.lambda_}; it must be a number ≥ 0")
        if not (math.isfinite(self.rho) and self.rho > 0):
            raise Trap2Error(f"rho is {self.rho}; it must be a number > 0")

    def record(self) -> dict[str, float | str]:
        """The settings as records hold them, λ under ``lambda``."""
        return {"name": "arf", "lambda": self.lambda_, "rho": self.rho}

    def within(self, surroundings: Surroundings) -> AnchorRepulsion:
        """The same objective, knowing the attention projections and their anchors.

        Raises:
            Trap2Error: the training has no attention projections, or none that it trains whole.
        """
        if not projections(surroundings.parameters) or not surroundings.base:
            raise Trap2Error(
                "arf pushes the attention projections of a whole checkpoint away from the base, "
                "and this training has none. Train a whole checkpoint of a model with attention"
            )
        return AnchorRepulsion(self.lambda_, self.rho, surroundings)

    def draw(self, generator: np.random.Generator) -> None:
        """A step draws nothing."""

    def accumulate_gradient(
        self, loss_at: LossAt, _drawn: object, share: float = 1.0
    ) -> tuple[float, float]:
        """Add the gradient of L + λ · Σ max(0, ·), times ``share``; returns L and nan."""
        if self.surroundings is None:
            raise Trap2Error("this objective is of a training's tensors; call within(…) first")
        weights = projections(self.surroundings.parameters)
        nominal = loss_at(1.0)
        penalty = self.lambda_ * repulsion(weights, self.surroundings.base, self.rho)
        (share * (nominal + penalty)).backward()
        return nominal.item(), math.nan


def projections(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights (no biases) of attention projections among a model's parameters."""
    endings = tuple(f".{name}.weight" for name in PROJECTIONS)
    return {name: weight for name, weight in weights.items() if name.endswith(endings)}


def repulsion(
    weights: Mapping[str, torch.Tensor], anchors: Mapping[str, torch.Tensor], rho: float
) -> torch.Tensor:
    """Σ max(0, ρ‖θ0‖ − ‖θ − θ0‖), Frobenius norms; no gradient beyond the margin nor at θ0 itself.

    Args:
        weights: θ by name.
        anchors: θ0 of at least these names.
        rho: ρ.
    """
    terms = []
    for name, weight in weights.items():
        anchor = anchors[name]
        margin = rho * torch.linalg.vector_norm(anchor)
        terms.append((margin - torch.linalg.vector_norm(weight - anchor)).clamp_min(0))
    return torch.stack(terms).sum()
