"""A task as an attack sees it: the test split withheld, and all that it gives counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from trap2.attacks.meter import Meter
from trap2.data.prepared import SplitName
from trap2.models.scoring import Score
from trap2.models.task import Batch, Model, Reduction, Task
from trap2.runtime.catalogue import CatalogueError


@dataclass(frozen=True)
class TaskView:
    """A task whose validation split alone can be looked at; all of it then counts as labelled.

    Training images come from :meth:`trap2.attacks.stage.Stage.sample`, which counts them.

    Attributes:
        name: the task's.
        task: itself.
        meter: counts what was seen.
    """

    name: str
    task: Task
    meter: Meter

    @property
    def batch_size(self) -> int:
        """Examples of a forward pass without gradients."""
        return self.task.batch_size

    def labels(self, split: SplitName) -> np.ndarray:
        """The classes of the validation images.

        Raises:
            CatalogueError: another split is asked for.
        """
        return self._opened(split).labels(split)

    def batch(self, split: SplitName, chosen: np.ndarray) -> Batch:
        """Some validation images.

        Raises:
            CatalogueError: another split is asked for.
        """
        return self._opened(split).batch(split, chosen)

    def logits(self, output: torch.Tensor) -> torch.Tensor:
        """As the task's."""
        return self.task.logits(output)

    def loss(self, model: Model, batch: Batch, *, reduction: Reduction = "mean") -> torch.Tensor:
        """As the task's."""
        return self.task.loss(model, batch, reduction=reduction)

    def score(self, model: Model, split: SplitName) -> Score:
        """Accuracy and loss on the validation split.

        Raises:
            CatalogueError: another split is asked for.
        """
        return self._opened(split).score(model, split)

    def _opened(self, split: SplitName) -> Task:
        if split != "val":
            raise CatalogueError(
                f"an attack asked for the split '{split}' of {self.name}: it may look at 'val', "
                "and take images of 'train' by stage.sample(…), which counts them; 'test' is what "
                "it is scored on"
            )
        self.meter.saw(self.name, split, len(self.task.labels(split)), labelled=True)
        return self.task
