"""A merged update applied to a model at a coefficient s."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType

import torch
from torch import nn

from trap2.updates.delta import UpdateError

LARGEST = 1e6
"""The largest |s| at which an update is applied."""


class AppliedUpdate:
    """A context in which a model's weights can be set to W0 + s·ΔW, and after which they are W0.

        with AppliedUpdate(model, merged) as applied:
            for s in (0.1, 0.2):
                applied.set(s)

    Setting s is one pass over each layer, in place and from W0, so that nothing accumulates.  On
    leaving, also by an exception, W0 is back bit for bit.

    Args:
        model: holds the base weights W0.
        merged: layer (a parameter's or buffer's name in ``model``) to ΔW at s = 1, shaped like
            the weight, or (d_out, rest) for a convolution.

    Raises:
        UpdateError: the model has no such layer, or the shapes differ.
    """

    def __init__(
        self,
        model: nn.Module,
        merged: Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]],
    ) -> None:
        # The tensors of a state dict share their memory with the model.
        weights = model.state_dict()
        pairs = merged.items() if isinstance(merged, Mapping) else merged
        self._layers: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for layer, delta in pairs:
            weight = _weight(weights, layer, delta)
            moved = delta.reshape(weight.shape).to(weight.device, weight.dtype)
            self._layers.append((weight, weight.clone(), moved))

    def set(self, s: float) -> None:
        """Set every layer to W0 + s·ΔW.

        Raises:
            UpdateError: s is not finite, or so large that it can only be a mistake.
        """
        if not abs(s) <= LARGEST:
            raise UpdateError(f"s = {s}: must be a number from -{LARGEST:g} to {LARGEST:g}")
        with torch.no_grad():
            for weight, base, delta in self._layers:
                torch.add(base, delta, alpha=s, out=weight)

    def restore(self) -> None:
        """Set every layer to W0, bit for bit."""
        with torch.no_grad():
            for weight, base, _ in self._layers:
                weight.copy_(base)

    def __enter__(self) -> AppliedUpdate:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.restore()


def check_finite(model: nn.Module, what: str) -> None:
    """Refuse a model that an update has made NaN or infinite.

    Raises:
        UpdateError: a weight is.
    """
    for name, weight in model.state_dict().items():
        if not weight.isfinite().all():
            raise UpdateError(f"{what}: the weight {name} is NaN or infinite")


def _weight(weights: Mapping[str, torch.Tensor], layer: str, delta: torch.Tensor) -> torch.Tensor:
    if layer not in weights:
        raise UpdateError(f"layer {layer}: the model has no such weight; is it another backbone's?")
    weight = weights[layer]
    matrix = (weight.shape[0], weight[0].numel()) if weight.ndim > 2 else tuple(weight.shape)
    if tuple(delta.shape) not in {tuple(weight.shape), matrix}:
        raise UpdateError(
            f"layer {layer}: the update has shape {tuple(delta.shape)}, the base model's weight "
            f"{tuple(weight.shape)}; the update belongs to another base"
        )
    return weight
