"""What Theorems A.2 and A.4 need of a set of adapters, measured on a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trap2.data.prepared import Split
from trap2.data.proxy import proxy_sample
from trap2.evaluation.curvature import TaskLoss, along, gradient_norm
from trap2.evaluation.pairs import combination, frobenius_norm
from trap2.evaluation.theorems import (
    CURVATURE_GRID,
    cross_degradation,
    down_scaling,
    weighted_curvature,
)
from trap2.models.clip.tower import normalise
from trap2.updates.delta import Update, dense_layers

_BATCH = 64


def sampled_loss(
    split: Split,
    head: torch.Tensor,
    logit_scale: float,
    images: int,
    generator: np.random.Generator,
    device: torch.device,
) -> TaskLoss:
    """The loss on a random sample of a split's images."""
    chosen = proxy_sample(split.labels, images, "random", generator)
    pixels = normalise(torch.from_numpy(split.images[chosen].copy()).to(device))
    labels = torch.from_numpy(split.labels[chosen].copy()).to(device)
    batches = list(zip(pixels.split(_BATCH), labels.split(_BATCH), strict=True))
    return TaskLoss(head.to(device), logit_scale, batches)


@dataclass(frozen=True)
class Landscape:
    """A model W0 and what is measured around it.

    Attributes:
        model: holds W0, and is not changed.
        losses: every task's loss.
    """

    model: nn.Module
    losses: Mapping[str, TaskLoss]

    def _dense(self, update: Update) -> dict[str, torch.Tensor]:
        own = self.model.state_dict()
        return {name: part.to(own[name].device) for name, part in dense_layers(update)}

    def _base(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        own = self.model.state_dict()
        return {name: own[name].detach() for name in names}

    def _moved(self, update: Update) -> dict[str, torch.Tensor]:
        delta = self._dense(update)
        base = self._base(list(delta))
        return {name: base[name] + part for name, part in delta.items()}

    def gradient(self, update: Update, task: str) -> float:
        """‖∇L‖_F at W0 + ΔW, over the weights that the update changes."""
        return gradient_norm(self.model, self._moved(update), self.losses[task])

    def scaling(self, update: Update, task: str) -> list[dict[str, Any]]:
        """Theorem A.2 for one update, a record a scale."""
        delta = self._dense(update)
        origin, loss = self._base(list(delta)), self.losses[task]
        at = {u: along(self.model, origin, delta, loss, u) for u in CURVATURE_GRID}
        found = down_scaling(
            {u: point.loss for u, point in at.items()},
            {u: point.curvature for u, point in at.items()},
            at[1.0].slope,
        )
        return [asdict(each) | {"premise": each.premise} for each in found]

    def degradation(self, own: Update, other: Update, task: str, epsilon: float) -> dict[str, Any]:
        """Theorem A.4 for the task of ``own``, averaged with ``other``.

        Args:
            own: ΔW_κ.
            other: ΔW_τ.
            task: κ.
            epsilon: ‖∇L_κ(ΔW_κ)‖_F.
        """
        secant = combination(other, own, 1.0, -1.0)
        half = {name: part / 2 for name, part in self._dense(secant).items()}
        origin, loss = self._moved(own), self.losses[task]
        start, end = (along(self.model, origin, half, loss, u) for u in (0.0, 1.0))
        integral = weighted_curvature(lambda u: along(self.model, origin, half, loss, u).curvature)
        distance = frobenius_norm(secant)
        found = cross_degradation(distance, epsilon, start.slope, integral, start.loss, end.loss)
        return asdict(found) | {"guaranteed": found.guaranteed}
