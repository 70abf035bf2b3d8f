"""A PEFT adapter in anybody's model, at a scale of its update, and J's gradient on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from trap2.protection.trap2 import Trap2, random_state, set_random_state
from trap2.runtime.errors import Trap2Error
from trap2.runtime.seeding import numpy_generator

Backward = Callable[[torch.Tensor], Any]
"""Adds a loss's gradient to the parameters, such as ``accelerator.backward``."""


class AdapterError(Trap2Error):
    """The adapter is none whose update can be scaled; the message says why and what to do."""


def scale_of_step(objective: Trap2, seed: int, step: int) -> float:
    """The off-nominal s of an optimiser's step: one for all its micro-batches and processes.

    Args:
        objective: gives the law of s.
        seed: the training's.
        step: of the optimiser, from 0.
    """
    return objective.draw_scale(numpy_generator(seed, "transformers", "scale", str(step)))


def adapter_layers(model: nn.Module) -> list[Any]:
    """The LoRA layers of a model whose active adapter is to be trained.

    Raises:
        AdapterError: there is none, or what is trained is not a LoRA update alone, which a scale on
            BA moves as a whole.
    """
    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer

    tuned = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    layers = [module for module in tuned if isinstance(module, LoraLayer)]
    if not tuned:
        raise AdapterError(
            "the model has no adapter: wrap it with peft.get_peft_model(model, LoraConfig(…)) first"
        )
    if len(layers) != len(tuned):
        kinds = sorted({type(m).__name__ for m in tuned if not isinstance(m, LoraLayer)})
        raise AdapterError(f"only LoRA's update can be scaled, and here is {', '.join(kinds)} too")
    for layer in layers:
        _check(layer)
    known = ("lora_A.", "lora_B.", "lora_embedding_A.", "lora_embedding_B.")
    others = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not any(part in name for part in known)
    ]
    if others:
        raise AdapterError(
            f"{len(others)} trained tensors belong to no LoRA factor, {others[0]} among them; they "
            "would be the same at every scale. Leave out modules_to_save and lora_bias, and freeze "
            "the base"
        )
    return layers


def _check(layer: Any) -> None:
    active = list(layer.active_adapters)
    if len(active) != 1:
        raise AdapterError(
            f"{len(active)} adapters are active ({', '.join(active) or 'none'}); train one at a "
            "time, with model.set_adapter(name)"
        )
    if layer.merged or layer.disable_adapters:
        raise AdapterError(
            "the adapter is merged into the base or disabled; call model.unmerge_adapter() or "
            "model.enable_adapter_layers()"
        )
    if getattr(layer, "lora_variant", None):
        raise AdapterError(
            "the adapter is DoRA or another variant whose update is not its factors' product, so "
            "that a scale on it is not s·ΔW. Use LoraConfig(use_dora=False) without variants"
        )


@contextmanager
def scaled(layers: list[Any], s: float) -> Iterator[None]:
    """The model at W0 + s·ΔW (Eq. 5), its backward passes too.

    Args:
        layers: from :func:`adapter_layers`.
        s: the scale.
    """
    nominal = [dict(layer.scaling) for layer in layers]
    for layer, scaling in zip(layers, nominal, strict=True):
        for name in layer.active_adapters:
            if name in scaling:
                layer.scaling[name] = s * scaling[name]
    try:
        yield
    finally:
        for layer, scaling in zip(layers, nominal, strict=True):
            layer.scaling.update(scaling)


def trap2_backward(
    model: nn.Module,
    loss: Callable[[], torch.Tensor],
    objective: Trap2,
    s: float,
    *,
    share: float = 1.0,
    backward: Backward | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the gradient of J = L(W0 + ΔW) − λ · w(s) · L(W0 + s·ΔW) (Eq. 9), in one's own loop.

    One pass after the other, each with its backward pass, so that the memory is one pass's and
    gradient checkpointing computes blocks again at the right scale.

    Args:
        model: with a PEFT LoRA adapter.
        loss: runs the model on one batch, the same each time.
        objective: TRAP²'s settings.
        s: from :func:`scale_of_step`, one for all micro-batches of a step.
        share: factor on both terms, 1 / (number of micro-batches) under accumulation.
        backward: of a scaled loss, its own by default; ``accelerator.backward`` with accelerate.

    Returns:
        The nominal and the unweighted off-nominal loss, detached; nan for one not computed (λ = 0).

    Raises:
        AdapterError: the model has no adapter that can be scaled.
    """
    layers, add = adapter_layers(model), backward or _backward
    before = random_state()
    nominal = loss()
    add(share * nominal)
    weight = objective.off_nominal_weight(s)
    if weight == 0:
        return nominal.detach(), torch.tensor(math.nan)
    set_random_state(before)
    with scaled(layers, s):
        off_nominal = loss()
        add(-share * weight * off_nominal)
    return nominal.detach(), off_nominal.detach()


def _backward(loss: torch.Tensor) -> None:
    loss.backward()
