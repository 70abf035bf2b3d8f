"""An adapter under training: LoRA layers of which one step asks at two scales (paper, Eq. 1, 5).

LoRA is Hu et al. 2021 (arXiv 2106.09685), Eq. 3, rsLoRA Kalajdzievski 2023 (arXiv 2312.03732).
Initialisation, random draws, arithmetic and files are PEFT's to the bit (the tests compare them);
the layers are our own because PEFT's have one scale for a whole batch and masks of their own in
every pass, and because its import takes longer than a small training's first hundred steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call

from trap2.runtime.seeding import seed_of
from trap2.updates.adapters import PEFT_PREFIX, adapter_configuration, write_adapter_files
from trap2.updates.delta import LayerUpdate, LowRank, UpdateError
from trap2.updates.settings import AdapterSettings
from trap2.updates.trainable import Model, Pair, Point, TrainableUpdate, Where, directions


class LoraLinear(nn.Module):
    """x ↦ W0 x + b + s·c·B A dropout(x) of a linear layer, with c = α/r, or α/√r of rsLoRA.

    Attributes:
        scaling: s·c; as a tensor (2,) that of the first half of a batch and that of the second,
            which has the same examples again.
        masks: where masks are kept for the next pass, by layer; None draws them in every pass.
    """

    def __init__(self, base: nn.Linear, settings: AdapterSettings) -> None:
        """Wrap a layer; A is drawn from torch's generator as a linear layer's weight is, B is 0."""
        super().__init__()
        rank = settings.rank
        self.base_layer = base
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)
        dtype = torch.promote_types(base.weight.dtype, torch.float32)
        for factor in (self.lora_A, self.lora_B):
            factor.to(base.weight.device, dtype)
        self.dropout = settings.dropout
        self.nominal = settings.alpha / (math.sqrt(rank) if settings.rslora else rank)
        self.scaling: float | torch.Tensor = self.nominal
        self.masks: dict[nn.Module, torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.base_layer(x)
        # In the factors' precision: 1 / (1 - p) rounded to bfloat16 is another number.
        dropped = self._dropped(x.to(self.lora_A.weight.dtype))
        added: torch.Tensor = self.lora_B(self.lora_A(dropped))
        if isinstance(self.scaling, torch.Tensor):
            added = (added.reshape(2, -1) * self.scaling[:, None]).view_as(added)
        else:
            added = added * self.scaling
        return (result + added).to(result.dtype)

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        return x * self._mask(x) if self.training and self.dropout > 0 else x

    def _mask(self, x: torch.Tensor) -> torch.Tensor:
        if self.masks is not None and self in self.masks:
            return self.masks[self]
        both = isinstance(self.scaling, torch.Tensor)
        drawn = torch.empty_like(x[: len(x) // 2] if both else x)
        drawn.bernoulli_(1 - self.dropout).div_(1 - self.dropout)
        if both:
            drawn = torch.cat([drawn, drawn])
        if self.masks is not None:
            self.masks[self] = drawn
        return drawn


class LoraUpdate:
    """ΔW = c·BA on the given linear layers of a model."""

    def __init__(
        self, model: nn.Module, targets: Sequence[str], settings: AdapterSettings, seed: int
    ) -> None:
        """Attach a fresh adapter (B = 0) to ``model``, in place.

        Args:
            model: the frozen base.
            targets: full names of the ``nn.Linear`` modules to adapt.
            settings: the adapter's form.
            seed: seeds the initial A.

        Raises:
            UpdateError: a target is no linear layer of the model, or the form is DoRA.
        """
        if settings.dora:
            raise UpdateError("DoRA's ΔW is no product BA: attach_adapter attaches it")
        self._settings, self.module = settings, model
        self._draws_alone = not any(map(_draws, model.modules()))
        self._layers = _adapt(model, targets, settings, seed)
        self._names = [f"{name}.weight" for name in self._layers]
        self._parameters = [p for p in model.parameters() if p.requires_grad]

    def parameters(self) -> list[nn.Parameter]:
        return self._parameters

    def named_parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.module.named_parameters() if p.requires_grad}

    def origin(self) -> dict[str, torch.Tensor]:
        return {}

    def at(self, where: Where) -> Model:
        if isinstance(where, Point):
            return self._at_point(where)

        def model(inputs: torch.Tensor) -> torch.Tensor:
            with self._scaled([where] * len(self._names)):
                output: torch.Tensor = self.module(inputs)
            return output

        return model

    def pair(self, where: Where) -> Pair | None:
        point = where if isinstance(where, Point) else Point(dict.fromkeys(self._names, where))
        point.check(self._names)
        if point.added or not self._draws_alone:
            return None
        like = self._parameters[0]
        both = [like.new_tensor([1.0, point.scales[name]]) for name in self._names]

        def models(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with self._scaled(both):
                output: torch.Tensor = self.module(torch.cat([inputs, inputs]))
            nominal, off_nominal = output.chunk(2)
            return nominal, off_nominal

        return models

    @contextmanager
    def same_masks(self) -> Iterator[None]:
        # A processor draws them slowly; on a GPU they are drawn again, and take no memory between.
        # What else draws, as stochastic depth does, must find the generator where it was.
        if self._parameters[0].device.type != "cpu" or not self._draws_alone:
            yield
            return
        masks: dict[nn.Module, torch.Tensor] = {}
        for layer in self._layers.values():
            layer.masks = masks
        try:
            yield
        finally:
            for layer in self._layers.values():
                layer.masks = None

    @contextmanager
    def _scaled(self, scales: Sequence[float | torch.Tensor]) -> Iterator[None]:
        for layer, s in zip(self._layers.values(), scales, strict=True):
            layer.scaling = s * layer.nominal
        try:
            yield
        finally:
            for layer in self._layers.values():
                layer.scaling = layer.nominal

    def _at_point(self, point: Point) -> Model:
        point.check(self._names)
        weights = {name: self._layer(name).base_layer.weight for name in self._names}
        # In the base's own weights, where a block that is computed again finds the direction too.
        moved = {
            f"{name.removesuffix('.weight')}.base_layer.weight": weights[name] + direction
            for name, direction in directions(point, weights).items()
        }

        def model(inputs: torch.Tensor) -> torch.Tensor:
            with self._scaled([point.scales[name] for name in self._names]):
                output: torch.Tensor = functional_call(self.module, moved, (inputs,))
            return output

        return model

    def _layer(self, name: str) -> LoraLinear:
        return self._layers[name.removesuffix(".weight")]

    def layers(self) -> dict[str, LayerUpdate]:
        return dict(self.factors())

    def factors(self) -> dict[str, LowRank]:
        """c·B and A by weight name, detached."""
        return {
            f"{name}.weight": LowRank(
                layer.lora_B.weight.detach() * layer.nominal, layer.lora_A.weight.detach()
            )
            for name, layer in self._layers.items()
        }

    def state(self) -> dict[str, torch.Tensor]:
        return {
            f"{PEFT_PREFIX}{name}.lora_{factor}.weight": weight.detach()
            for name, layer in self._layers.items()
            for factor, weight in (("A", layer.lora_A.weight), ("B", layer.lora_B.weight))
        }

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        own = self.state()
        if own.keys() != state.keys():
            raise UpdateError(
                f"no adapter of these layers: {sorted(own.keys() ^ state.keys())[:3]}"
            )
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def set_factors(self, factors: Mapping[str, LowRank]) -> None:
        """Set ΔW to a low-rank update of the same layers, shapes and ranks.

        Raises:
            UpdateError: the factors are of other layers or shapes.
        """
        if factors.keys() != set(self._names):
            raise UpdateError("factors of exactly the adapter's layers are needed")
        for name, factor in factors.items():
            layer = self._layer(name)
            pairs = (
                (layer.lora_B.weight, factor.B / layer.nominal),
                (layer.lora_A.weight, factor.A),
            )
            for weight, value in pairs:
                if weight.shape != value.shape:
                    raise UpdateError(f"layer {name}: {tuple(value.shape)} is no factor's shape")
                weight.data.copy_(value)

    def save(self, folder: str | Path) -> None:
        """Write a PEFT adapter: ``adapter_model.safetensors`` and ``adapter_config.json``."""
        configuration = adapter_configuration(self._settings, list(self._layers))
        write_adapter_files(folder, self.state(), configuration)


def attach_adapter(
    model: nn.Module, targets: Sequence[str], settings: AdapterSettings, seed: int
) -> TrainableUpdate:
    """A fresh adapter on ``model``, in place: :class:`LoraUpdate`, or PEFT's DoRA.

    Raises:
        UpdateError: a target is no linear layer of the model.
    """
    if settings.dora:
        from trap2.updates.dora import DoraUpdate

        return DoraUpdate(model, targets, settings, seed)
    return LoraUpdate(model, targets, settings, seed)


def _draws(module: nn.Module) -> bool:
    """Whether a module of the base draws at random in training: dropout or stochastic depth."""
    return any(getattr(module, name, 0) for name in ("p", "drop_prob"))


def _adapt(
    model: nn.Module, targets: Sequence[str], settings: AdapterSettings, seed: int
) -> dict[str, LoraLinear]:
    """Freeze a model and put an adapter on each target, in the model's own order."""
    linears = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear))
    found, layers = {n: m for n, m in linears if n in targets}, dict[str, LoraLinear]()
    if unknown := sorted(set(targets) - found.keys()):
        raise UpdateError(f"no linear layers of this model: {unknown[:3]}")
    model.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "lora initialisation"))
        for name, linear in found.items():
            layers[name] = LoraLinear(linear, settings).train(linear.training)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layers[name])
    return layers
