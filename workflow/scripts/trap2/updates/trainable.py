"""Releasable updates under training (paper, Eq. 1, 5): what they are, and all the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from torch.func import functional_call

from trap2.runtime import files
from trap2.updates.adapters import CHECKPOINT_FILE
from trap2.updates.delta import LayerUpdate, LowRank, Update, UpdateError

Model = Callable[[torch.Tensor], torch.Tensor]

Pair = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From a batch's inputs to a model's outputs at s = 1 and at another point."""


@dataclass(frozen=True)
class Point:
    """Weights off the line W0 + s·ΔW: W0 + s_l·ΔW_l + D_l in every layer l of an update (ours).

    Attributes:
        scales: s_l by weight name, for every layer of the update.
        added: D_l by weight name, constants on the update's device; a layer may lack one.
    """

    scales: Mapping[str, float]
    added: Update = field(default_factory=dict)

    def check(self, layers: list[str]) -> None:
        """Check that a point is one of an update.

        Args:
            layers: the weight names of the update's layers.

        Raises:
            UpdateError: the scales are not of exactly these layers, or D has another one.
        """
        if self.scales.keys() != set(layers):
            found = sorted(self.scales.keys() ^ set(layers))
            raise UpdateError(f"a scale for every layer and no other is needed: {found[:3]}")
        if others := sorted(self.added.keys() - set(layers)):
            raise UpdateError(
                f"the added direction has layers that the update does not change: {others[:3]}; "
                "it must be an update of the same layers of the same base"
            )


Where = float | Point
"""A scale s of the whole update, or a point off that line."""


class TrainableUpdate(Protocol):
    """What training needs of an update ΔW on a frozen base W0."""

    module: nn.Module

    def parameters(self) -> list[nn.Parameter]:
        """The tensors to optimise."""

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The same tensors by their names in the module."""

    def origin(self) -> dict[str, torch.Tensor]:
        """W0 by those names, for all the weights; empty for an adapter, whose factors have none."""

    def at(self, where: Where) -> Model:
        """The model at the weights W0 + s·ΔW (Eq. 5) or at a point, from inputs to output.

        Args:
            where: s, or the point.

        Raises:
            UpdateError: a point of other layers, or of other shapes.
        """

    def pair(self, where: Where) -> Pair | None:
        """The models at s = 1 and at a point, in one pass of both on the same masks.

        Args:
            where: s, or the point.

        Returns:
            None where the two cannot share a pass, because their weights have no factors in
            common (all the weights, DoRA, a point with an added direction) or because the base
            itself draws at random, as with stochastic depth.
        """

    def same_masks(self) -> AbstractContextManager[None]:
        """While it is open, passes of a batch may take the dropout masks of the first.

        They are the masks that the generator, set back, would draw again.
        """

    def layers(self) -> dict[str, LayerUpdate]:
        """ΔW as it is now, by weight name: factors of LoRA, else tensors; detached."""

    def state(self) -> dict[str, torch.Tensor]:
        """The update's tensors by name, detached but not copied."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Set the update to a state that :meth:`state` gave."""

    def save(self, folder: str | Path) -> None:
        """Write the files that are released."""


class FullUpdate:
    """ΔW_t = W_t − W0 for every parameter of a model (paper, Section 5)."""

    def __init__(self, model: nn.Module) -> None:
        """Make every parameter of ``model`` trainable, in place; its weights now are W0."""
        self.module = model
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        self._base = {n: p.detach().clone() for n, p in model.named_parameters()}

    def parameters(self) -> list[nn.Parameter]:
        return list(self.module.parameters())

    def named_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.module.named_parameters())

    def origin(self) -> dict[str, torch.Tensor]:
        return dict(self._base)

    def at(self, where: Where) -> Model:
        if where == 1.0:
            return self.module
        point = where if isinstance(where, Point) else Point(dict.fromkeys(self._base, where))
        point.check(list(self._base))
        added = directions(point, self._base)

        def weight(name: str, parameter: torch.Tensor) -> torch.Tensor:
            moved = self._base[name] + point.scales[name] * (parameter - self._base[name])
            return moved + added[name] if name in added else moved

        def model(inputs: torch.Tensor) -> torch.Tensor:
            scaled = {name: weight(name, p) for name, p in self.module.named_parameters()}
            output: torch.Tensor = functional_call(self.module, scaled, (inputs,))
            return output

        return model

    def pair(self, where: Where) -> Pair | None:
        return None

    def same_masks(self) -> AbstractContextManager[None]:
        return nullcontext()

    def layers(self) -> dict[str, LayerUpdate]:
        named = self.module.named_parameters()
        return {name: p.detach() - self._base[name] for name, p in named}

    def state(self) -> dict[str, torch.Tensor]:
        return {n: p.detach() for n, p in self.module.named_parameters()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                parameter.copy_(state[name])

    def save(self, folder: str | Path) -> None:
        """Write all the model's parameters W_t as ``model.safetensors``."""
        files.write_tensors(Path(folder) / CHECKPOINT_FILE, self.state())


def directions(point: Point, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """D of a point by weight name, dense, each like its weight.

    Raises:
        UpdateError: one has another shape.
    """
    found = {}
    for name, direction in point.added.items():
        weight = weights[name]
        if tuple(direction.shape) != tuple(weight.shape):
            raise UpdateError(
                f"layer {name}: the added direction has shape {tuple(direction.shape)}, the weight "
                f"{tuple(weight.shape)}; they are not of the same model"
            )
        part = direction.dense(weight.dtype) if isinstance(direction, LowRank) else direction
        found[name] = part.to(weight.dtype)
    return found
