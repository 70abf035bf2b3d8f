"""Releasable updates under training: a LoRA adapter or all the weights (paper, Eq. 1, 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import linear

from trap2.runtime import files
from trap2.runtime.seeding import seed_of
from trap2.updates.adapters import (
    CHECKPOINT_FILE,
    PEFT_PREFIX,
    _configuration,
    _dora,
    _write_adapter,
)
from trap2.updates.delta import LayerUpdate, LowRank, Update, UpdateError
from trap2.updates.settings import AdapterSettings

Model = Callable[[torch.Tensor], torch.Tensor]


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

    def layers(self) -> dict[str, LayerUpdate]:
        """ΔW as it is now, by weight name: factors of LoRA, else tensors; detached."""

    def state(self) -> dict[str, torch.Tensor]:
        """The update's tensors by name, detached but not copied."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Set the update to a state that :meth:`state` gave."""

    def save(self, folder: str | Path) -> None:
        """Write the files that are released."""


class LoraUpdate:
    """ΔW = BA, or DoRA's ΔW, on the given linear layers of a model, through PEFT."""

    def __init__(
        self, model: nn.Module, targets: list[str], settings: AdapterSettings, seed: int
    ) -> None:
        """Attach a fresh adapter (B = 0) to ``model``, in place.

        Args:
            model: the frozen base.
            targets: full names of the ``nn.Linear`` modules to adapt.
            settings: the adapter's form.
            seed: seeds the initial A.
        """
        from peft import get_peft_model

        self.config = _configuration(settings, targets)
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(seed, "lora initialisation"))
            self.module: nn.Module = get_peft_model(model, self.config)
        from peft.tuners.lora import LoraLayer

        found = [(n, m) for n, m in self.module.named_modules() if isinstance(m, LoraLayer)]
        self._names = [f"{name.removeprefix(PEFT_PREFIX)}.weight" for name, _ in found]
        self._layers: list[Any] = [layer for _, layer in found]
        self._parameters = [p for p in self.module.parameters() if p.requires_grad]

    def parameters(self) -> list[nn.Parameter]:
        return self._parameters

    def named_parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.module.named_parameters() if p.requires_grad}

    def origin(self) -> dict[str, torch.Tensor]:
        return {}

    def _scaled(self, scales: list[float]) -> AbstractContextManager[None]:
        return self._outputs_moved(scales) if self.config.use_dora else self._factors_scaled(scales)

    @contextmanager
    def _factors_scaled(self, scales: list[float]) -> Iterator[None]:
        nominal = [layer.scaling["default"] for layer in self._layers]
        for layer, s, scale in zip(self._layers, scales, nominal, strict=True):
            layer.scaling["default"] = s * scale
        try:
            yield
        finally:
            for layer, scale in zip(self._layers, nominal, strict=True):
                layer.scaling["default"] = scale

    @contextmanager
    def _outputs_moved(
        self, scales: list[float], added: Mapping[str, torch.Tensor] | None = None
    ) -> Iterator[None]:
        """DoRA's ΔW is not linear in its factors; what it adds to a layer's output is in ΔW."""

        def move(s: float, direction: torch.Tensor | None) -> Callable[..., torch.Tensor]:
            def hook(layer: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
                base: torch.Tensor = layer.base_layer(*inputs)
                moved = base + s * (output - base)
                return moved if direction is None else moved + linear(inputs[0], direction)

            return hook

        directions = [(added or {}).get(name) for name in self._names]
        hooks = [
            layer.register_forward_hook(move(s, direction))
            for layer, s, direction in zip(self._layers, scales, directions, strict=True)
            if s != 1.0 or direction is not None
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def at(self, where: Where) -> Model:
        if isinstance(where, Point):
            return self._at_point(where)

        def model(inputs: torch.Tensor) -> torch.Tensor:
            with self._scaled([where] * len(self._layers)):
                output: torch.Tensor = self.module(inputs)
            return output

        return model

    def _at_point(self, point: Point) -> Model:
        point.check(self._names)
        scales = [point.scales[name] for name in self._names]
        weights = [layer.base_layer.weight for layer in self._layers]
        added = _directions(point, dict(zip(self._names, weights, strict=True)))

        def dora(inputs: torch.Tensor) -> torch.Tensor:
            with self._outputs_moved(scales, added):
                output: torch.Tensor = self.module(inputs)
            return output

        # In the base's own weights, where a block that is computed again finds the direction too.
        moved = {
            f"{PEFT_PREFIX}{name.removesuffix('.weight')}.base_layer.weight": weight + added[name]
            for name, weight in zip(self._names, weights, strict=True)
            if name in added
        }

        def lora(inputs: torch.Tensor) -> torch.Tensor:
            with self._factors_scaled(scales):
                output: torch.Tensor = functional_call(self.module, moved, (inputs,))
            return output

        return dora if self.config.use_dora else lora

    def layers(self) -> dict[str, LayerUpdate]:
        found = zip(self._names, self._layers, strict=True)
        return {name: self._delta(layer) for name, layer in found}

    def _delta(self, layer: Any) -> LayerUpdate:
        b = layer.lora_B["default"].weight.detach() * layer.scaling["default"]
        a = layer.lora_A["default"].weight.detach()
        if not self.config.use_dora:
            return LowRank(b, a)
        magnitude = layer.lora_magnitude_vector["default"].weight.detach()
        return _dora(layer.base_layer.weight, b @ a, magnitude)

    def state(self) -> dict[str, torch.Tensor]:
        from peft import get_peft_model_state_dict

        return {k: v.detach() for k, v in get_peft_model_state_dict(self.module).items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self.module, dict(state))

    def set_factors(self, factors: Mapping[str, LowRank]) -> None:
        """Set ΔW to a low-rank update of the same layers, shapes and ranks.

        Raises:
            UpdateError: the update is DoRA, or the factors are of other layers or shapes.
        """
        if self.config.use_dora or factors.keys() != set(self._names):
            raise UpdateError("factors of exactly the adapter's layers are needed, and no DoRA")
        for name, layer in zip(self._names, self._layers, strict=True):
            pairs = (
                (layer.lora_B["default"].weight, factors[name].B / layer.scaling["default"]),
                (layer.lora_A["default"].weight, factors[name].A),
            )
            for weight, value in pairs:
                if weight.shape != value.shape:
                    raise UpdateError(f"layer {name}: {tuple(value.shape)} is no factor's shape")
                weight.data.copy_(value)

    def save(self, folder: str | Path) -> None:
        """Write a PEFT adapter: ``adapter_model.safetensors`` and ``adapter_config.json``."""
        _write_adapter(folder, self.state(), self.config)


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
        added = _directions(point, self._base)

        def weight(name: str, parameter: torch.Tensor) -> torch.Tensor:
            moved = self._base[name] + point.scales[name] * (parameter - self._base[name])
            return moved + added[name] if name in added else moved

        def model(inputs: torch.Tensor) -> torch.Tensor:
            scaled = {name: weight(name, p) for name, p in self.module.named_parameters()}
            output: torch.Tensor = functional_call(self.module, scaled, (inputs,))
            return output

        return model

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


def _directions(point: Point, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """D of a point by weight name, dense, each like its weight."""
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
