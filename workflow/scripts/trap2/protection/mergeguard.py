"""MergeGuard: spread by an L2 penalty, then a part of the update taken back (paper, Section 5).

Stage 1 goes on training with ‖θ‖² beside the loss.  Stage 2 keeps the layers that the task needs
most and subtracts β·τ from the most significant entries of the others.  With the paper's β = 1
that sets them back to their pretrained values: it prunes, and negates nothing.  A layer is a named
parameter tensor; of an adapter, a weight that it changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from trap2.protection.adapters import Adapter, base_weight, truncate
from trap2.protection.objective import LossAt, Surroundings
from trap2.runtime.errors import Trap2Error
from trap2.updates.delta import LowRank

MEASURES = ("update", "weight")
"""What makes an entry significant: |τ|, or |θ|.  The paper does not say; |τ| is ours."""

SCOPES = ("global", "tensor")
"""Whether the most significant entries are found among all tensors together, or in each."""

# 0.07 · 100 is 7.000000000000001, and seven layers of a hundred are 7 %.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SquaredNorm:
    """Stage 1: L(θ) + α · Σ ‖θ‖², literally, over all trainable tensors (paper, Section 5).

    It pulls to zero, not to the pretrained weights.  An adapter's trainable tensors are its
    factors.  The term is in the gradient, before the optimiser; decoupled decay is another method.

    Attributes:
        alpha: α ≥ 0.
        surroundings: the training's, set by :meth:`within`.

    Raises:
        Trap2Error: α is no number ≥ 0.
    """

    alpha: float
    surroundings: Surroundings | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha >= 0):
            raise Trap2Error(f"alpha is {self.alpha}; it must be a number ≥ 0")

    def record(self) -> dict[str, float | str]:
        """The settings as records hold them, α under ``lambda``."""
        return {"name": "mergeguard-stage1", "lambda": self.alpha}

    def within(self, surroundings: Surroundings) -> SquaredNorm:
        """The same objective, knowing the trainable tensors."""
        return SquaredNorm(self.alpha, surroundings)

    def draw(self, generator: np.random.Generator) -> None:
        """A step draws nothing."""

    def accumulate_gradient(
        self, loss_at: LossAt, _drawn: object, share: float = 1.0
    ) -> tuple[float, float]:
        """Add the gradient of L + α · Σ ‖θ‖², times ``share``; returns L and nan."""
        if self.surroundings is None:
            raise Trap2Error("this objective is of a training's tensors; call within(…) first")
        nominal = loss_at(1.0)
        penalty = self.alpha * squared_norm(self.surroundings.parameters.values())
        (share * (nominal + penalty)).backward()
        return nominal.item(), math.nan


def squared_norm(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """Σ ‖θ‖² over some tensors, a scalar."""
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum()


def critical_layers(drops: Mapping[str, float], share: float) -> list[str]:
    """Stage 2, step 1: the layers whose masking costs most.

    Args:
        drops: by layer, the accuracy without it subtracted from that with all, percentage points.
        share: k', 0 … 1 of the layers, rounded up.

    Returns:
        The chosen layers in the order of ``drops``, which also decides between equal drops.
    """
    count = math.ceil(share * len(drops) - _ROUNDING)
    chosen = sorted(drops, key=lambda layer: -drops[layer])[:count]
    return [layer for layer in drops if layer in set(chosen)]


def measure_drops(
    layers: Sequence[str],
    masked: Callable[[str], torch.Tensor],
    accuracy: Callable[[Mapping[str, torch.Tensor]], float],
) -> dict[str, float]:
    """How much accuracy each layer is worth.

    Args:
        layers: names of the layers.
        masked: the weight that stands for a masked layer: the pretrained one, or zeros.
        accuracy: in percent, with some of the model's weights replaced.

    Returns:
        By layer, the accuracy with all subtracted by that without it; negative where it gains.
    """
    whole = accuracy({})
    return {layer: whole - accuracy({layer: masked(layer)}) for layer in layers}


def significant(
    values: Mapping[str, torch.Tensor], share: float, scope: str = "global"
) -> dict[str, torch.Tensor]:
    """Stage 2, step 2: the mask M of the entries of largest magnitude.

    Args:
        values: by layer, τ or θ of the layers that are not critical.
        share: k, 0 … 1 of the entries, rounded down.
        scope: a name of :data:`SCOPES`.

    Returns:
        By layer a boolean tensor of its shape.  Of equal magnitudes the first ones count, so that
        exactly ⌊k · n⌋ are true, n being all entries or those of a tensor.
    """
    if scope == "tensor":
        return {
            name: _largest(value.flatten(), share).reshape(value.shape)
            for name, value in values.items()
        }
    if not values:
        return {}
    flat = _largest(torch.cat([value.flatten() for value in values.values()]), share)
    parts = flat.split([value.numel() for value in values.values()])
    return {
        name: part.reshape(value.shape)
        for (name, value), part in zip(values.items(), parts, strict=True)
    }


def _largest(values: torch.Tensor, share: float) -> torch.Tensor:
    magnitudes = values.abs()
    count = math.floor(share * len(magnitudes) + _ROUNDING)
    if count == 0:
        return torch.zeros_like(magnitudes, dtype=torch.bool)
    threshold = magnitudes.kthvalue(len(magnitudes) - count + 1).values
    chosen = magnitudes > threshold
    equal = (magnitudes == threshold).nonzero().flatten()
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen


def take_back(
    weight: torch.Tensor, base: torch.Tensor, mask: torch.Tensor, beta: float
) -> torch.Tensor:
    """Stage 2, step 3: θ − β·M⊙τ with τ = θ − θ0; with β = 1 exactly θ0 where M is true.

    Args:
        weight: θ.
        base: θ0, of the same shape.
        mask: M, boolean, of the same shape.
        beta: β; 1 prunes, 2 negates.
    """
    return torch.where(mask, (1 - beta) * weight + beta * base, weight)


def prune(
    weights: Mapping[str, torch.Tensor],
    base: Mapping[str, torch.Tensor],
    accuracy: Callable[[Mapping[str, torch.Tensor]], float],
    found: dict[str, Any],
    *,
    critical: float,
    masking: str,
    share: float,
    significance: str,
    scope: str,
    beta: float,
) -> dict[str, torch.Tensor]:
    """Stage 2 on weights W: β·τ is taken back from what is significant and not critical.

    Args:
        weights: W by name.
        base: W0 of at least these names and of their shapes.
        accuracy: with some of W replaced, in percent.
        found: is told the critical layers and the numbers of entries.
        critical: k', share of the layers that stay.
        masking: ``base`` or ``zero``, what stands for a layer whose worth is measured.
        share: k, share of the other layers' entries that is taken back.
        significance: a name of :data:`MEASURES`.
        scope: a name of :data:`SCOPES`.
        beta: β.

    Returns:
        All weights, those of critical layers the same tensors.
    """

    def masked(layer: str) -> torch.Tensor:
        return base[layer] if masking == "base" else torch.zeros_like(weights[layer])

    # By name, because that decides between equals, and a file's tensors come in any order.
    names = sorted(weights)
    kept = critical_layers(measure_drops(names, masked, accuracy), critical)
    rest = {name: weights[name] for name in names if name not in kept}
    origin = {name: base[name].to(weight.dtype) for name, weight in rest.items()}
    by_update = significance == "update"
    values = {name: w - origin[name] if by_update else w for name, w in rest.items()}
    masks = significant(values, share, scope)
    found["critical"] = kept
    found["masked"] = sum(int(mask.sum()) for mask in masks.values())
    found["entries"] = sum(weight.numel() for weight in weights.values())
    pruned = {name: take_back(w, origin[name], masks[name], beta) for name, w in rest.items()}
    return {**weights, **pruned}


def prune_adapter(
    adapter: Adapter,
    base: Mapping[str, torch.Tensor],
    accuracy: Callable[[Mapping[str, torch.Tensor]], float],
    found: dict[str, Any],
    **options: Any,
) -> dict[str, LowRank]:
    """Stage 2 on W0 + ΔW of the layers that an adapter changes, refitted to its ranks (ours).

    What is left of ΔW has no longer rank r: the closest one that has is released (truncated SVD).

    Args:
        adapter: layer's weight name to ΔW.
        base: layer's weight name to W0.
        accuracy: with some of the model's weights W0 + ΔW replaced, in percent.
        found: as in :func:`prune`, and the share of ‖ΔW‖² that the refit loses.
        options: those of :func:`prune`.
    """
    origin = {name: base_weight(base, name, d.shape).double() for name, d in adapter.items()}
    weights = {name: origin[name] + d.dense(torch.float64) for name, d in adapter.items()}
    pruned = prune(weights, origin, accuracy, found, **options)
    deltas = {name: weight - origin[name] for name, weight in pruned.items()}
    fitted = {name: truncate(delta, adapter[name].rank) for name, delta in deltas.items()}
    lost = [deltas[name] - fit.dense(torch.float64) for name, fit in fitted.items()]
    found["lost"] = float(squared_norm(lost) / squared_norm(deltas.values()))
    return {name: fit.to(adapter[name].B.dtype) for name, fit in fitted.items()}
