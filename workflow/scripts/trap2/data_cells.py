"""Cells of Tables 5 and 11: merges that see a sample of every task's images.

Neither RegMean nor Chain of Merges has a coefficient to search: they are read at s = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trap2 import released
from trap2.cells import Scorer
from trap2.clip.backbones import lora_targets, normalise
from trap2.data.arrays import Split
from trap2.data.proxy import proxy_sample
from trap2.data_merging import Weighting, merge_with_inputs
from trap2.seeding import numpy_generator
from trap2.sweep import AppliedUpdate
from trap2.updates import Update

_BATCH = 50


@dataclass(frozen=True)
class DataMethod:
    """A merger with data.

    Attributes:
        paper: where it comes from.
        chain: recompute each layer's inputs with the merged layers below.
        weighting: how the tasks are weighted; Chain of Merges chooses weights (Section 6.4),
            which here are the tasks' shares of the Gram matrices' traces.
    """

    paper: str
    chain: bool
    weighting: Weighting


DATA_METHODS: dict[str, DataMethod] = {
    "RegMean": DataMethod("Jin et al., 2023, arXiv:2212.09849", False, "equal"),
    "CoM": DataMethod("Buzzega et al., 2025, arXiv:2508.21421", True, "trace"),
}


def proxy_batches(
    split: Split, task: str, *, samples: int, sampling: str, seed: int, device: torch.device
) -> list[torch.Tensor]:
    """A task's sample as normalised images (n, 3, H, W), in batches."""
    generator = numpy_generator(seed, "proxy sample", task, sampling)
    chosen = proxy_sample(split.labels, samples, sampling, generator)
    images = torch.from_numpy(split.images[chosen].copy())
    return [normalise(batch.to(device)) for batch in images.split(_BATCH)]


def data_cell(
    scorer: Scorer,
    inputs: Sequence[Sequence[torch.Tensor]],
    updates: Sequence[Update],
    method: str,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Merge with the samples and score the merged tower at s = 1 on both splits.

    Args:
        scorer: the base tower with the tasks to score it on; it holds W0 again afterwards.
        inputs: one list of batches a task (:func:`proxy_batches`).
        updates: one a task, in the order of the scorer's tasks.
        method: a key of :data:`DATA_METHODS`.
        options: ``off_diagonal``, the factor of the Gram matrices' off-diagonal entries.

    Returns:
        The cell's record: options, every task's score, the normalised validation accuracy, and
        for each layer the coefficients, every task's share of the Gram matrices' traces.
    """
    entry = DATA_METHODS[method]
    found = merge_with_inputs(
        scorer.tower,
        lora_targets(scorer.tower),
        inputs,
        updates,
        chain=entry.chain,
        weighting=entry.weighting,
        **options,
    )
    with AppliedUpdate(scorer.tower, found.merged) as applied:
        applied.set(1.0)
        value = scorer.normalised_accuracy()
        test = scorer.scores("test")
    names = list(scorer.tasks)
    return {
        "options": dict(options),
        "paper": entry.paper,
        "normalised_val_accuracy": value,
        "test": {task: released.score_record(result) for task, result in test.items()},
        "coefficients": {
            layer: dict(zip(names, shares.tolist(), strict=True))
            for layer, shares in found.coefficients.items()
        },
    }
