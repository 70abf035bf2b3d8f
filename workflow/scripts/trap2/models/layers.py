"""The layers of a tower by its family: what LoRA adapts, and the repeated blocks."""

from __future__ import annotations

from torch import nn

from trap2.models.families import FAMILIES


def family(tower: nn.Module) -> str:
    """The family of a tower, a key of :data:`trap2.models.families.FAMILIES`.

    Raises:
        ValueError: the tower is of none, or its attention is still fused.
    """
    if any(isinstance(module, nn.MultiheadAttention) for module in tower.modules()):
        raise ValueError("this tower's attention is fused; take it from vision_tower(clip)")
    names = [name for name, module in tower.named_modules() if isinstance(module, nn.Linear)]
    for candidate in FAMILIES.values():
        if any(candidate.adapted.fullmatch(name) for name in names):
            return candidate.name
    patterns = ", ".join(f"{name}: {known.adapted.pattern}" for name, known in FAMILIES.items())
    raise ValueError(
        f"no linear layer of this {type(tower).__name__} is one that a family adapts ({patterns}). "
        "The smallest ConvNeXts have convolutions in their place; other kinds of towers need a "
        "family of their own in trap2/models/families.py"
    )


def lora_targets(tower: nn.Module) -> list[str]:
    """The full names of the linear layers that the paper adapts, in the model's order.

    ViT: the q, k, v and out projections of every block.  ConvNeXt: the two pointwise layers of
    every block.
    """
    pattern = FAMILIES[family(tower)].adapted
    return [
        name
        for name, module in tower.named_modules()
        if isinstance(module, nn.Linear) and pattern.fullmatch(name)
    ]


def blocks(tower: nn.Module) -> list[nn.Module]:
    """The transformer or ConvNeXt blocks of a tower, in the model's order."""
    pattern = FAMILIES[family(tower)].blocks
    return [module for name, module in tower.named_modules() if pattern.fullmatch(name)]
