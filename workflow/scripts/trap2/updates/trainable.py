"""Releasable updates under training: a LoRA adapter or all the weights (paper, Eq. 1, 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from trap2.runtime import files
from trap2.runtime.seeding import seed_of
from trap2.updates.adapters import CHECKPOINT_FILE, _configuration, _write_adapter
from trap2.updates.settings import AdapterSettings

Model = Callable[[torch.Tensor], torch.Tensor]


class TrainableUpdate(Protocol):
    """What training needs of an update ΔW on a frozen base W0."""

    module: nn.Module

    def parameters(self) -> list[nn.Parameter]:
        """The tensors to optimise."""

    def at(self, s: float) -> Model:
        """The model at the weights W0 + s·ΔW (Eq. 5), from inputs to output."""

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

        self._layers: list[Any] = [m for m in self.module.modules() if isinstance(m, LoraLayer)]
        self._parameters = [p for p in self.module.parameters() if p.requires_grad]

    def parameters(self) -> list[nn.Parameter]:
        return self._parameters

    def _scaled(self, s: float) -> AbstractContextManager[None]:
        return self._outputs_scaled(s) if self.config.use_dora else self._factors_scaled(s)

    @contextmanager
    def _factors_scaled(self, s: float) -> Iterator[None]:
        nominal = [layer.scaling["default"] for layer in self._layers]
        for layer, scale in zip(self._layers, nominal, strict=True):
            layer.scaling["default"] = s * scale
        try:
            yield
        finally:
            for layer, scale in zip(self._layers, nominal, strict=True):
                layer.scaling["default"] = scale

    @contextmanager
    def _outputs_scaled(self, s: float) -> Iterator[None]:
        """DoRA's ΔW is not linear in its factors; what it adds to a layer's output is in ΔW."""

        def scale(layer: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            base: torch.Tensor = layer.base_layer(*inputs)
            return base + s * (output - base)

        hooks = [] if s == 1.0 else [m.register_forward_hook(scale) for m in self._layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def at(self, s: float) -> Model:
        def model(inputs: torch.Tensor) -> torch.Tensor:
            with self._scaled(s):
                output: torch.Tensor = self.module(inputs)
            return output

        return model

    def state(self) -> dict[str, torch.Tensor]:
        from peft import get_peft_model_state_dict

        return {k: v.detach() for k, v in get_peft_model_state_dict(self.module).items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self.module, dict(state))

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

    def at(self, s: float) -> Model:
        if s == 1.0:
            return self.module

        def model(inputs: torch.Tensor) -> torch.Tensor:
            scaled = {
                name: self._base[name] + s * (parameter - self._base[name])
                for name, parameter in self.module.named_parameters()
            }
            output: torch.Tensor = torch.func.functional_call(self.module, scaled, (inputs,))
            return output

        return model

    def state(self) -> dict[str, torch.Tensor]:
        return {n: p.detach() for n, p in self.module.named_parameters()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                parameter.copy_(state[name])

    def save(self, folder: str | Path) -> None:
        """Write all the model's parameters W_t as ``model.safetensors``."""
        files.write_tensors(Path(folder) / CHECKPOINT_FILE, self.state())
