"""The networks of the benchmarks, with random weights: speed depends on none."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import yaml
from torch import nn
from trap2.data.prepared import Split
from trap2.models.clip.architectures import configuration
from trap2.models.clip.classifier import Classifier
from trap2.models.clip.convnext import convnext_tower
from trap2.models.clip.vision import VisionTower
from trap2.runtime.seeding import numpy_generator

DEMO = "config/suites/demo.yaml"
REAL: dict[str, Any] = {
    "ViT-B/32": {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "patch_size": 32, "width": 768, "layers": 12},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 512,
            "heads": 8,
            "layers": 12,
        },
    }
}


def networks() -> dict[str, dict[str, Any]]:
    """Architectures by name: the demo's two and ViT-B/32."""
    with open(DEMO, encoding="utf-8") as file:
        suite = yaml.safe_load(file)
    return {name: b["architecture"] for name, b in suite["backbones"].items()} | REAL


def tower(architecture: dict[str, Any]) -> nn.Module:
    """A vision tower with random weights, frozen and in evaluation mode."""
    described = configuration(architecture)
    vision = architecture["vision_cfg"]
    build = convnext_tower if "timm_model_name" in vision else VisionTower
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(described).eval().requires_grad_(False)


def task(architecture: dict[str, Any], images: int, batch_size: int = 256) -> Classifier:
    """A task of ten classes with random images, on the CPU."""
    size = architecture["vision_cfg"]["image_size"]
    generator = numpy_generator(0, "benchmark", str(size))
    pixels = generator.integers(0, 256, (images, 3, size, size), dtype=np.uint8)
    split = Split(pixels, generator.integers(0, 10, images))
    head = torch.from_numpy(generator.standard_normal((10, architecture["embed_dim"])))
    head = nn.functional.normalize(head.float(), dim=-1)
    return Classifier({"train": split, "val": split}, head, 100.0, batch_size, torch.device("cpu"))
