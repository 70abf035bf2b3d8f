"""Gradient checkpointing of a model whose weights depend on the scale of its update.

A checkpointed block keeps only its input for the backward pass and is computed again there.  By
then open_clip's own switch would find the weights at another scale than in the forward pass, since
W0 + s·ΔW holds during the forward pass alone, and would give wrong gradients for every s ≠ 1.
Here a block remembers the weights and adapter scales that it was computed with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from trap2.models.layers import blocks

# An adapter's layers, with the scale that each had.
Scales = list[tuple[Any, float | torch.Tensor]]


class _Plain(nn.Module):
    """A block without checkpointing."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return type(self.block).forward(self.block, *inputs, **named)


def recompute_blocks(model: nn.Module) -> nn.Module:
    """Checkpoint every block of a vision model, in place; an adapter may be attached later.

    Function, gradients, names and random draws stay what they are.  A training step needs the
    memory of one block's activations, and about a third more time.

    Args:
        model: from :func:`trap2.models.clip.tower.vision_tower`.

    Returns:
        The same model.
    """
    for block in blocks(model):
        block.forward = partial(_checkpointed, _Plain(block))
    return model


def _checkpointed(plain: _Plain, *inputs: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return plain(*inputs, **named)
    # Under torch.func.functional_call these are the scaled weights, not the module's own.
    weights: dict[str, torch.Tensor] = dict(plain.named_parameters())
    found = ((module, getattr(module, "scaling", None)) for module in plain.modules())
    scales = [(layer, s) for layer, s in found if isinstance(s, float | torch.Tensor)]

    def run(*inputs: Any) -> Any:
        with _scaled(scales):
            return functional_call(plain, weights, inputs, named)

    return checkpoint(run, *inputs, use_reentrant=False)


@contextmanager
def _scaled(scales: Scales) -> Iterator[None]:
    """The adapter's scales as they were."""
    now = [(layer, layer.scaling) for layer, _ in scales]
    for layer, s in scales:
        layer.scaling = s
    try:
        yield
    finally:
        for layer, s in now:
            layer.scaling = s
