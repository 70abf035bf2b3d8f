"""CLIP's task: images to classify by the cosines of their embeddings with a zero-shot head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from trap2.data.prepared import Split, SplitName, UnknownSplit, check_split, open_task
from trap2.models.clip.heads import read_head
from trap2.models.clip.tower import normalise
from trap2.models.scoring import Answers, Score, at_once, check_labels, in_mixed_precision, joined
from trap2.models.task import Batch, Model, Reduction
from trap2.runtime.errors import Trap2Error


def logits(features: torch.Tensor, head: torch.Tensor, logit_scale: float) -> torch.Tensor:
    """CLIP's logits: scale · cosine between image features (n, d) and head rows (C, d)."""
    return logit_scale * F.normalize(features.float(), dim=-1) @ head.T


@dataclass(frozen=True)
class Classifier:
    """Images classified by a zero-shot head, a :class:`trap2.models.task.Task`.

    Attributes:
        splits: images and labels, of the splits that are needed.
        head: zero-shot head (C, d), rows of unit length.
        logit_scale: factor on the cosines; changes the loss, not the accuracy.
        batch_size: images a forward pass of a score, at most.
        device: where the model lives.
    """

    splits: Mapping[SplitName, Split]
    head: torch.Tensor
    logit_scale: float
    batch_size: int
    device: torch.device

    def labels(self, split: SplitName) -> np.ndarray:
        return self._split(split).labels

    def batch(self, split: SplitName, chosen: np.ndarray) -> Batch:
        """Images, normalised (n, 3, H, W) float32, with their labels (n,)."""
        examples = self._split(split)
        images = torch.from_numpy(examples.images[chosen])
        labels = torch.from_numpy(examples.labels[chosen])
        return Batch(normalise(images.to(self.device)), labels.to(self.device))

    def logits(self, output: torch.Tensor) -> torch.Tensor:
        """The scaled cosines (n, C) of features (n, d) with the head.

        Raises:
            Trap2Error: the head is another model's.
        """
        if output.shape[1] != self.head.shape[1]:
            raise Trap2Error(
                f"the head takes {self.head.shape[1]} features, the model gives "
                f"{output.shape[1]}; the head is another model's"
            )
        return logits(output, self.head.to(self.device), self.logit_scale)

    def loss(self, model: Model, batch: Batch, *, reduction: Reduction = "mean") -> torch.Tensor:
        """Cross-entropy in nats."""
        return F.cross_entropy(self.logits(model(batch.inputs)), batch.labels, reduction=reduction)

    @torch.inference_mode()
    def score(self, model: Model, split: SplitName) -> Score:
        """Accuracy and mean cross-entropy in nats over a whole split, in evaluation mode.

        Raises:
            Trap2Error: the split is empty or not opened, or the head is another task's or model's.
        """
        labels = self.labels(split)
        check_labels(labels, len(self.head))
        count, found = len(labels), list[Answers]()
        mixed = in_mixed_precision(model, self.device)
        size = at_once(self.batch_size, self.device)
        for start in range(0, count, size):
            batch = self.batch(split, np.arange(start, min(start + size, count)))
            found.append(Answers.of(self.logits(mixed(batch.inputs)), batch.labels))
        return joined(found).score(self.batch_size)

    def _split(self, split: SplitName) -> Split:
        if check_split(split) not in self.splits:
            raise UnknownSplit(
                f"split '{split}' was not opened for this task, only {', '.join(self.splits)}"
            )
        return self.splits[split]


def open_classifier(
    head: str | Path,
    data: list[str],
    task: str,
    splits: Iterable[SplitName],
    *,
    logit_scale: float,
    batch_size: int,
    device: torch.device,
) -> Classifier:
    """A task from a job's input files.

    Args:
        head: the file of its zero-shot head.
        data: prepared files, this task's among them.
        task: its name.
        splits: those to open.
        logit_scale: factor on the cosines.
        batch_size: images a forward pass of a score.
        device: where the model lives.

    Raises:
        FileError: a file is missing or damaged.
    """
    opened = {split: open_task(data, task, split) for split in splits}
    return Classifier(opened, read_head(head), logit_scale, batch_size, device)
