"""The post-hoc defenses as functions from one update to another, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from trap2.protect.adapters import Adapter, base_weight, refit_adapter, transform_adapter
from trap2.protect.catalogue import DEFENSES, NotApplicable, objection
from trap2.protect.checkpoints import Weights, permute_hidden_units, transform_attention
from trap2.protect.transforms import DiagonalScales, Draws, Heads, RandomMixing, Transform
from trap2.seeding import numpy_generator
from trap2.updates import LowRank, UpdateError

PARAMS = DiagonalScales()
MERGELOCK = RandomMixing()


@dataclass(frozen=True)
class AdapterDefense:
    """From an adapter, W0, the heads and the randomness to a new adapter."""

    transform: Transform
    protect: Callable[[Transform, Adapter, Weights, Heads, Draws], dict[str, LowRank]]


@dataclass(frozen=True)
class CheckpointDefense:
    """From all weights W, W0, the heads and the randomness to new weights."""

    transform: Transform
    protect: Callable[[Transform, Weights, Weights, Heads, Draws], dict[str, torch.Tensor]]


def _adapter_space(
    transform: Transform, adapter: Adapter, _base: Weights, heads: Heads, draws: Draws
) -> dict[str, LowRank]:
    return transform_adapter(transform, adapter, heads, draws)


def _params(
    transform: Transform, weights: Weights, base: Weights, heads: Heads, draws: Draws
) -> dict[str, torch.Tensor]:
    scaled = transform_attention(transform, weights, heads, draws)
    return permute_hidden_units(scaled, base, heads)


def _mergelock(
    transform: Transform, weights: Weights, _base: Weights, heads: Heads, draws: Draws
) -> dict[str, torch.Tensor]:
    return transform_attention(transform, weights, heads, draws)


ADAPTER_DEFENSES = {
    "params-adapter": AdapterDefense(PARAMS, _adapter_space),
    "params-refit": AdapterDefense(PARAMS, refit_adapter),
    "mergelock-adapter": AdapterDefense(MERGELOCK, _adapter_space),
    "mergelock-refit": AdapterDefense(MERGELOCK, refit_adapter),
}
CHECKPOINT_DEFENSES = {
    "params": CheckpointDefense(PARAMS, _params),
    "mergelock": CheckpointDefense(MERGELOCK, _mergelock),
}


def protect_adapter(
    name: str, adapter: Adapter, base: Weights, heads: Heads, *, seed: int, task: str
) -> dict[str, LowRank]:
    """An adapter as a post-hoc defense would release it.

    Args:
        name: a key of :data:`ADAPTER_DEFENSES`.
        adapter: layer's weight name to ΔW; q, k, v and out of every attention module.
        base: layer's weight name to W0.
        heads: attention modules and their numbers of heads
            (:func:`trap2.protect.transforms.attention_heads`).
        seed: the configuration's; with name, task and layer it decides every draw.
        task: the adapter's task.

    Raises:
        NotApplicable: the backbone has no attention, or the defense takes whole checkpoints.
        UpdateError: the adapter lacks a projection, does not fit the base, or is not finite.
    """
    _check(name, "lora", heads)
    for layer, delta in adapter.items():
        _check_finite(layer, delta.B, delta.A)
    defense = ADAPTER_DEFENSES[name]
    return defense.protect(defense.transform, adapter, base, heads, _draws(seed, name, task))


def protect_checkpoint(
    name: str, weights: Weights, base: Weights, heads: Heads, *, seed: int, task: str
) -> dict[str, torch.Tensor]:
    """A whole checkpoint as a post-hoc defense would release it: the same function.

    Args:
        name: a key of :data:`CHECKPOINT_DEFENSES`.
        weights: all the tower's parameters W by name.
        base: W0 by name, of the same parameters.
        heads: attention modules and their numbers of heads.
        seed: the configuration's; with name, task and layer it decides every draw.
        task: the checkpoint's task.

    Raises:
        NotApplicable: the backbone has no attention, or the defense takes adapters.
        UpdateError: the weights do not fit the base, or are not finite.
    """
    _check(name, "full", heads)
    for layer, weight in weights.items():
        base_weight(base, layer, tuple(weight.shape))
        _check_finite(layer, weight)
    for layer in base.keys() - weights.keys():
        raise UpdateError(f"the checkpoint lacks {layer}; it is not a whole checkpoint of the base")
    defense = CHECKPOINT_DEFENSES[name]
    return defense.protect(defense.transform, weights, base, heads, _draws(seed, name, task))


def parameters(name: str) -> dict[str, Any]:
    """The distribution that a defense draws from, for the record."""
    transform: Any = (ADAPTER_DEFENSES | CHECKPOINT_DEFENSES)[name].transform
    return asdict(transform)


def _draws(seed: int, name: str, task: str) -> Draws:
    return partial(numpy_generator, seed, "protect", name, task)


def _check(name: str, release: str, heads: Heads) -> None:
    if name not in DEFENSES:
        raise ValueError(f"unknown post-hoc defense {name!r}; known: {', '.join(DEFENSES)}")
    reason = objection(name, release, "vit" if heads else "convnext")
    if reason is not None:
        raise NotApplicable(reason)


def _check_finite(layer: str, *tensors: torch.Tensor) -> None:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise UpdateError(
            f"layer {layer} holds NaN or infinity; its training diverged or the file is damaged"
        )
