"""A DoRA adapter under training (Liu et al. 2024, arXiv 2402.09353), through PEFT."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from trap2.runtime.seeding import seed_of
from trap2.updates.adapters import (
    PEFT_PREFIX,
    adapter_configuration,
    dora_delta,
    write_adapter_files,
)
from trap2.updates.delta import LayerUpdate
from trap2.updates.settings import AdapterSettings
from trap2.updates.trainable import Model, Pair, Point, Where, directions


class DoraUpdate:
    """DoRA's ΔW on the given linear layers of a model."""

    def __init__(
        self, model: nn.Module, targets: Sequence[str], settings: AdapterSettings, seed: int
    ) -> None:
        """Attach a fresh adapter (B = 0, m the norms of W0) to ``model``, in place.

        Args:
            model: the frozen base.
            targets: full names of the ``nn.Linear`` modules to adapt.
            settings: the adapter's form.
            seed: seeds the initial A.
        """
        from peft import LoraConfig, get_peft_model
        from peft.tuners.lora import LoraLayer

        self._configuration = adapter_configuration(settings, targets)
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=list(targets),
            use_rslora=settings.rslora,
            use_dora=True,
            bias="none",
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(seed, "lora initialisation"))
            self.module: nn.Module = get_peft_model(model, config)
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

    def at(self, where: Where) -> Model:
        point = where if isinstance(where, Point) else Point(dict.fromkeys(self._names, where))
        point.check(self._names)
        added = directions(point, {n: self._base(n).weight for n in point.added})

        def model(inputs: torch.Tensor) -> torch.Tensor:
            with self._outputs_moved(point.scales, added):
                output: torch.Tensor = self.module(inputs)
            return output

        return model

    def pair(self, where: Where) -> Pair | None:
        return None

    def same_masks(self) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def _outputs_moved(
        self, scales: Mapping[str, float], added: Mapping[str, torch.Tensor]
    ) -> Iterator[None]:
        """DoRA's ΔW is not linear in its factors; what it adds to a layer's output is in ΔW."""

        def move(s: float, direction: torch.Tensor | None) -> Callable[..., torch.Tensor]:
            def hook(layer: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
                base: torch.Tensor = layer.base_layer(*inputs)
                moved = base + s * (output - base)
                return moved if direction is None else moved + linear(inputs[0], direction)

            return hook

        hooks = [
            layer.register_forward_hook(move(scales[name], added.get(name)))
            for name, layer in zip(self._names, self._layers, strict=True)
            if scales[name] != 1.0 or name in added
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _base(self, name: str) -> Any:
        return self._layers[self._names.index(name)].base_layer

    def layers(self) -> dict[str, LayerUpdate]:
        found = zip(self._names, self._layers, strict=True)
        return {name: self._delta(layer) for name, layer in found}

    def _delta(self, layer: Any) -> torch.Tensor:
        b = layer.lora_B["default"].weight.detach() * layer.scaling["default"]
        a = layer.lora_A["default"].weight.detach()
        magnitude = layer.lora_magnitude_vector["default"].weight.detach()
        return dora_delta(layer.base_layer.weight, b @ a, magnitude)

    def state(self) -> dict[str, torch.Tensor]:
        from peft import get_peft_model_state_dict

        return {k: v.detach() for k, v in get_peft_model_state_dict(self.module).items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self.module, dict(state))

    def save(self, folder: str | Path) -> None:
        """Write a PEFT adapter: ``adapter_model.safetensors`` and ``adapter_config.json``."""
        write_adapter_files(folder, self.state(), self._configuration)
