"""Transforms of protections by name, on updates that were checked first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from trap2.protection.adapters import Adapter, base_weight
from trap2.protection.catalogue import (
    PROTECTIONS,
    NotApplicable,
    other_format,
    post_hoc_protections,
    without_attention,
)
from trap2.protection.checkpoints import Weights
from trap2.protection.protection import Accuracy, Context, ProtectWith
from trap2.protection.transforms import Heads
from trap2.runtime.seeding import numpy_generator
from trap2.updates.delta import LowRank, UpdateError


def protect_adapter(
    name: str,
    adapter: Adapter,
    base: Weights,
    heads: Heads,
    *,
    seed: int,
    task: str,
    options: Mapping[str, object] | None = None,
    accuracy: Accuracy | None = None,
    found: dict[str, Any] | None = None,
) -> dict[str, LowRank]:
    """An adapter as a post-hoc defense would release it.

    Args:
        name: a key of :data:`trap2.protection.catalogue.PROTECTIONS` with a transform, of adapters.
        adapter: layer's weight name to ΔW; q, k, v and out of every attention module.
        base: layer's weight name to W0.
        heads: attention modules and their numbers of heads
            (:func:`trap2.protection.transforms.attention_heads`).
        seed: the configuration's; with name, task and layer it decides every draw.
        task: the adapter's task.
        options: the protection's; the others are at their defaults.
        accuracy: the update's on the validation split, for a protection that measures.
        found: is told what stands in the record.

    Raises:
        CatalogueError: an unknown option, or a value out of its range.
        NotApplicable: the backbone has no attention, or the defense takes whole checkpoints.
        UpdateError: the adapter lacks a projection, does not fit the base, or is not finite.
    """
    function = _function(name, "lora", heads)
    for layer, delta in adapter.items():
        _check_finite(layer, delta.B, delta.A)
    context = _context(name, heads, seed, task, options, accuracy, found)
    return function(adapter, base, context)


def protect_checkpoint(
    name: str,
    weights: Weights,
    base: Weights,
    heads: Heads,
    *,
    seed: int,
    task: str,
    options: Mapping[str, object] | None = None,
    accuracy: Accuracy | None = None,
    found: dict[str, Any] | None = None,
) -> dict[str, torch.Tensor]:
    """A whole checkpoint as a post-hoc defense would release it: the same function.

    Args:
        name: a key of :data:`trap2.protection.catalogue.PROTECTIONS` with a transform, of
            checkpoints.
        weights: all the model's parameters W by name.
        base: W0 by name, of the same parameters.
        heads: attention modules and their numbers of heads.
        seed: the configuration's; with name, task and layer it decides every draw.
        task: the checkpoint's task.
        options: the protection's; the others are at their defaults.
        accuracy: the update's on the validation split, for a protection that measures.
        found: is told what stands in the record.

    Raises:
        CatalogueError: an unknown option, or a value out of its range.
        NotApplicable: the backbone has no attention, or the defense takes adapters.
        UpdateError: the weights do not fit the base, or are not finite.
    """
    function = _function(name, "full", heads)
    for layer, weight in weights.items():
        base_weight(base, layer, tuple(weight.shape))
        _check_finite(layer, weight)
    for layer in base.keys() - weights.keys():
        raise UpdateError(f"the checkpoint lacks {layer}; it is not a whole checkpoint of the base")
    context = _context(name, heads, seed, task, options, accuracy, found)
    return function(weights, base, context)


def parameters(name: str, options: Mapping[str, object] | None = None) -> dict[str, float | str]:
    """The distribution that a defense draws from and its options, for the record."""
    make: Any = PROTECTIONS[name].transform
    drawn = {} if make is None else asdict(make())
    return drawn | dict(PROTECTIONS[name].check_options(options or {}))


def _context(
    name: str,
    heads: Heads,
    seed: int,
    task: str,
    options: Mapping[str, object] | None,
    accuracy: Accuracy | None,
    found: dict[str, Any] | None,
) -> Context:
    draws = partial(numpy_generator, seed, "protect", name, task)
    complete = PROTECTIONS[name].check_options(options or {})
    return Context(heads, draws, complete, accuracy, {} if found is None else found)


def _function(name: str, release_format: str, heads: Heads) -> ProtectWith:
    """The transform of a protection, after a look at whether it can be applied."""
    protection = PROTECTIONS[name]
    function = protection.transforming
    if function is None:
        known = ", ".join(post_hoc_protections())
        raise NotApplicable(f"{name} is trained, not applied afterwards; choose from {known}")
    reason = other_format(protection, release_format)
    if reason is None and protection.needs_attention and not heads:
        reason = without_attention(protection, "this backbone")
    if reason is not None:
        raise NotApplicable(reason)
    return function


def _check_finite(layer: str, *tensors: torch.Tensor) -> None:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise UpdateError(
            f"layer {layer} holds NaN or infinity; its training diverged or the file is damaged"
        )
