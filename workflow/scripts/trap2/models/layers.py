"""The layers of a model by its family: what LoRA adapts, and the repeated blocks."""

from __future__ import annotations

from torch import nn

from trap2.models.families import FAMILIES
from trap2.runtime.errors import Trap2Error


def family(model: nn.Module) -> str:
    """The family of a model, a key of :data:`trap2.models.families.FAMILIES`.

    Raises:
        ValueError: the model is of none, or its attention is still fused.
    """
    if any(isinstance(module, nn.MultiheadAttention) for module in model.modules()):
        raise Trap2Error("this model's attention is fused; take it from vision_tower(clip)")
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for candidate in FAMILIES.values():
        if any(candidate.adapted.fullmatch(name) for name in names):
            return candidate.name
    patterns = ", ".join(f"{name}: {known.adapted.pattern}" for name, known in FAMILIES.items())
    raise Trap2Error(
        f"no linear layer of this {type(model).__name__} is one that a family adapts ({patterns}). "
        "The smallest ConvNeXts have convolutions in their place; other kinds of towers need a "
        "family of their own in trap2/models/families.py"
    )


def lora_targets(model: nn.Module) -> list[str]:
    """The full names of the linear layers that the paper adapts, in the model's order.

    ViT: the q, k, v and out projections of every block.  ConvNeXt: the two pointwise layers of
    every block.
    """
    pattern = FAMILIES[family(model)].adapted
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and pattern.fullmatch(name)
    ]


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer or ConvNeXt blocks of a model, in the model's order."""
    return [model.get_submodule(name) for name in block_names(model)]


def block_names(model: nn.Module) -> list[str]:
    """The names of a model's transformer or ConvNeXt blocks, in the model's order."""
    pattern = FAMILIES[family(model)].blocks
    return [name for name, _ in model.named_modules() if pattern.fullmatch(name)]
