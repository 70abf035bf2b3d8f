"""Scoring a split against nothing but forward passes over ready batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from figures import Figure, fastest
from networks import REAL, networks, task, tower
from trap2.models.scoring import at_once

LIMIT = 1 / 0.95


def figures(everything: bool) -> Iterator[Figure]:
    """The demo's networks; ViT-B/32's shapes where everything is asked for."""
    for name, architecture in networks().items():
        if name in REAL and not everything:
            continue
        images = 64 if name in REAL else 512
        model, given = tower(architecture), task(architecture, images)
        size = at_once(given.batch_size, given.device)
        places = [np.arange(k, min(k + size, images)) for k in range(0, images, size)]
        batches = [given.batch("val", part).inputs for part in places]

        @torch.inference_mode()
        def forward(model: torch.nn.Module = model, batches: list[torch.Tensor] = batches) -> None:
            for batch in batches:
                model(batch)

        ways = {"score": lambda m=model, t=given: t.score(m, "val"), "forward": forward}
        found = fastest(ways, 12 if everything else 8)
        micro = {way: 1e6 * seconds / images for way, seconds in found.items()}
        yield Figure(
            *("scoring", f"a score / its forward passes alone, {name}"),
            *(found["score"] / found["forward"], LIMIT),
            f"{micro['score']:.0f} and {micro['forward']:.0f} µs an image",
        )
