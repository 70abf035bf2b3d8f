"""A tiny stage for attacks: a ViT of two blocks, three tasks that it can nearly do, updates."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from trap2.attacks.stage import Stage
from trap2.data.prepared import Split
from trap2.merging.settings import Search
from trap2.models.clip.build import build_clip
from trap2.models.clip.classifier import Classifier
from trap2.models.clip.tower import vision_tower
from trap2.updates.delta import LowRank, Update

ARCHITECTURE = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 8, "patch_size": 4, "width": 16, "layers": 2, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}
TASKS = ("a", "b", "c")
SEARCH = Search(step=0.25, maximum=1.5, patience=3)
CPU = torch.device("cpu")


def split(seed: int, count: int) -> Split:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    return Split(images, generator.integers(0, 3, count))


def tiny_stage(*, full: bool = False, seed: int = 0) -> Stage:
    """A stage whose protected task is ``b``.

    Args:
        full: updates of all weights (dense) in place of adapters of rank 2.
        seed: seeds model, images and updates.
    """
    torch.manual_seed(seed)
    model = vision_tower(build_clip(ARCHITECTURE)).eval().requires_grad_(False)
    head = nn.functional.normalize(torch.randn(3, 8), dim=1)
    tasks = {
        name: Classifier(
            {s: split(10 * k + j, 24) for j, s in enumerate(("train", "val", "test"))},
            head,
            10.0,
            16,
            CPU,
        )
        for k, name in enumerate(TASKS)
    }
    updates = {name: _dense(model) if full else _adapter(model) for name in TASKS}
    return Stage(model, tasks, updates, "b", SEARCH, dict.fromkeys(TASKS, 50.0), seed=seed)


def _adapter(model: nn.Module) -> Update:
    from trap2.models.layers import lora_targets

    shapes = {f"{t}.weight": model.get_submodule(t).weight.shape for t in lora_targets(model)}
    return {
        layer: LowRank(0.3 * torch.randn(shape[0], 2), 0.3 * torch.randn(2, shape[1]))
        for layer, shape in shapes.items()
    }


def _dense(model: nn.Module) -> Update:
    return {name: 0.05 * torch.randn_like(p) for name, p in model.named_parameters()}
