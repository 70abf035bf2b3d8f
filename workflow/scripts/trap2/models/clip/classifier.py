"""Accuracy and loss of a vision tower with a zero-shot head."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from trap2.data.prepared import Split
from trap2.models.clip.tower import normalise
from trap2.models.scoring import Score, mixed_precision
from trap2.runtime.errors import Trap2Error


def logits(features: torch.Tensor, head: torch.Tensor, logit_scale: float) -> torch.Tensor:
    """CLIP's logits: scale · cosine between image features (n, d) and head rows (C, d)."""
    return logit_scale * F.normalize(features.float(), dim=-1) @ head.T


def batches(
    split: Split, batch_size: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The split in order, as normalised float images and labels on ``device``."""
    for start in range(0, len(split), batch_size):
        images = torch.from_numpy(split.images[start : start + batch_size].copy())
        labels = torch.from_numpy(split.labels[start : start + batch_size].copy())
        yield normalise(images.to(device)), labels.to(device)


@torch.inference_mode()
def score(
    features: Callable[[torch.Tensor], torch.Tensor],
    head: torch.Tensor,
    logit_scale: float,
    split: Split,
    *,
    batch_size: int,
    device: torch.device,
) -> Score:
    """Accuracy and loss over a whole split.

    Args:
        features: images (n, 3, H, W), normalised, to features (n, d); in evaluation mode.
        head: zero-shot head (C, d), rows of unit length.
        logit_scale: factor on the cosines; changes the loss, not the accuracy.
        split: the images and labels.
        batch_size: images a forward pass.
        device: where the model lives.

    Raises:
        Trap2Error: the split is empty, or the head is another task's or another model's.
    """
    if not len(split) or not 0 <= split.labels.min() <= split.labels.max() < len(head):
        raise Trap2Error(
            f"a head of {len(head)} classes and {len(split)} images with labels "
            f"{sorted(set(split.labels.tolist()))[:20]} do not belong together"
        )
    correct, loss = 0, 0.0
    head = head.to(device)
    for images, labels in batches(split, batch_size, device):
        with mixed_precision(device):
            output = features(images)
        if output.shape[1] != head.shape[1]:
            raise Trap2Error(
                f"the head takes {head.shape[1]} features, the model gives {output.shape[1]}; the "
                "head is another model's"
            )
        values = logits(output, head, logit_scale)
        correct += int((values.argmax(dim=1) == labels).sum())
        loss += float(F.cross_entropy(values.double(), labels, reduction="sum"))
    return Score(correct, len(split), loss / len(split))
