"""A task as a model sees it: batches, a loss and a score, whatever the model is of.

Training, merging and every measurement know a task by this protocol alone.  CLIP's implementation
is :class:`trap2.models.clip.classifier.Classifier`; a language model's would hold prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch

from trap2.data.prepared import SplitName
from trap2.models.scoring import Score

Model = Callable[[torch.Tensor], torch.Tensor]
"""From a batch's inputs to the model's output, at whatever weights it holds or is given."""


Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Batch:
    """Examples as a model takes them, on its device.

    Attributes:
        inputs: (n, …) what the model is called with.
        labels: (n, …) integers, what its output is compared with.
    """

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Task(Protocol):
    """What a model is trained and scored on."""

    @property
    def batch_size(self) -> int:
        """Examples of a forward pass without gradients, as configured."""
        ...

    def labels(self, split: SplitName) -> np.ndarray:
        """The class (n,) of every example of a split; zeros where the task has none.

        Raises:
            UnknownSplit: there is no such split.
        """
        ...

    def batch(self, split: SplitName, chosen: np.ndarray) -> Batch:
        """Some examples of a split.

        The inputs of a model's tasks are alike but for their number, so that several tasks' can be
        joined for one pass.

        Args:
            split: ``train``, ``val`` or ``test``.
            chosen: (n,) their places in the split, in ``range(len(labels(split)))``.

        Raises:
            UnknownSplit: there is no such split.
        """
        ...

    def logits(self, output: torch.Tensor) -> torch.Tensor:
        """The model's output for a batch as logits (n, classes)."""
        ...

    def loss(self, model: Model, batch: Batch, *, reduction: Reduction = "mean") -> torch.Tensor:
        """The task's loss on a batch in nats, a scalar tensor; the mean over it, or the sum."""
        ...

    def score(self, model: Model, split: SplitName) -> Score:
        """Accuracy and loss over a whole split, in ``batch_size`` and without gradients.

        Raises:
            UnknownSplit: there is no such split.
        """
        ...
