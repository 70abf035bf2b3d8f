"""An update over its scale: accuracy and loss at W0 + s·ΔW (Figures 2, 5 and 7)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from trap2.data.prepared import Split
from trap2.merging.merger import Merger
from trap2.models.clip.classifier import score
from trap2.models.scoring import score_record
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import Update
from trap2.updates.records import ScaleRecord


def sweep_scale(
    model: nn.Module,
    update: Update,
    scales: Iterable[float],
    *,
    head: torch.Tensor,
    split: Split,
    logit_scale: float,
    batch_size: int,
    device: torch.device,
) -> list[ScaleRecord]:
    """Score an update at several scales.

    Args:
        model: the base W0, on ``device``; it holds W0 again afterwards.
        update: ΔW.
        scales: values of s.
        head: zero-shot head (C, d).
        split: images and labels.
        logit_scale: factor on the cosines in the loss.
        batch_size: images a forward pass.
        device: where the model lives.

    Returns:
        A record a scale, with ``s``.

    Raises:
        UpdateError: the update does not fit the model.
    """
    records: list[ScaleRecord] = []
    with AppliedUpdate(model, Merger([update]).merge("TA")) as applied:
        for s in scales:
            applied.set(s)
            result = score(model, head, logit_scale, split, batch_size=batch_size, device=device)
            records.append({**score_record(result), "s": s})
    return records
