"""Supervised fine-tuning (SFT) of the merge on a few labelled images of every task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from trap2.attacks.fresh import budgets, train, with_budget
from trap2.attacks.meter import Meter
from trap2.attacks.stage import Merge, Stage
from trap2.data.prepared import SplitName
from trap2.models.scoring import Score
from trap2.models.task import Batch, Model, Reduction, Task
from trap2.runtime.catalogue import Options
from trap2.updates.delta import dense

_VALIDATIONS = 4
"""Scores on validation during a training, of which the best weights are kept."""


@dataclass(frozen=True)
class Together:
    """Labelled images of several tasks, as one task; each image meets its own task's head.

    Attributes:
        tasks: by name.
        inputs: (n, …).
        targets: (n, 2), each image's task (its place in ``tasks``) and class.
        meter: counts the validation images that are looked at.
    """

    tasks: Mapping[str, Task]
    inputs: torch.Tensor
    targets: torch.Tensor
    meter: Meter

    @property
    def batch_size(self) -> int:
        """Examples of a forward pass without gradients."""
        return next(iter(self.tasks.values())).batch_size

    def labels(self, _split: SplitName) -> np.ndarray:
        """Every image's task and class, (n, 2)."""
        found: np.ndarray = self.targets.cpu().numpy()
        return found

    def batch(self, _split: SplitName, chosen: np.ndarray) -> Batch:
        """Images, labelled with task and class."""
        places = torch.from_numpy(np.asarray(chosen)).to(self.inputs.device)
        return Batch(self.inputs[places], self.targets[places])

    def logits(self, output: torch.Tensor) -> torch.Tensor:
        """The output itself: its logits depend on the image's task."""
        return output

    def loss(self, model: Model, batch: Batch, *, reduction: Reduction = "mean") -> torch.Tensor:
        """Cross-entropy in nats by each image's own head, the mean over the images or the sum."""
        output = model(batch.inputs)
        of, classes = batch.labels.unbind(1)
        losses = [
            F.cross_entropy(task.logits(output[of == k]), classes[of == k], reduction="sum")
            for k, task in enumerate(self.tasks.values())
            if bool((of == k).any())
        ]
        total = torch.stack(losses).sum()
        return total / len(batch) if reduction == "mean" else total

    def score(self, model: Model, split: SplitName) -> Score:
        """All tasks' correct answers and mean loss on a split."""
        scores = {name: task.score(model, split) for name, task in self.tasks.items()}
        for name, score in scores.items():
            self.meter.saw(name, split, score.count, labelled=True)
        count = sum(score.count for score in scores.values())
        loss = sum(score.loss * score.count for score in scores.values())
        return Score(sum(score.correct for score in scores.values()), count, loss / count)


def labelled(stage: Stage, images: int) -> Together:
    """Labelled training images of every task.

    Args:
        stage: where.
        images: a task; all of them if there are fewer.
    """
    batches = [stage.sample(task, images, labelled=True) for task in stage.tasks]
    targets = [
        torch.stack([torch.full_like(batch.labels, k), batch.labels], 1)
        for k, batch in enumerate(batches)
    ]
    inputs = torch.cat([batch.inputs for batch in batches])
    return Together(stage.tasks, inputs, torch.cat(targets), stage.meter)


def supervised(stage: Stage, options: Options) -> Iterator[Merge]:
    """Fine-tune the merge of all published updates, by Task Arithmetic at its searched s.

    Of adapters, what is trained is a fresh one on the merged weights; of whole checkpoints, all
    weights.

    Args:
        stage: where.
        options: ``images`` a task, ``steps``, ``points`` and those of
            :func:`trap2.attacks.fresh.train`.

    Yields:
        A merge for each budget of :func:`trap2.attacks.fresh.budgets`.
    """
    for images, steps in budgets(options["images"], options["steps"], options["points"]):
        start = stage.merge_by_ta(stage.updates)
        task = labelled(stage, images)
        count = len(task.inputs)
        mine = train(
            stage, task, options, images=count, steps=steps, validations=_VALIDATIONS, start=start
        )
        total = {name: start.scale * delta for name, delta in start.delta.items()}
        for name, part in mine.items():
            learned = dense(part).cpu()
            total[name] = (
                total[name] + learned.reshape(total[name].shape) if name in total else learned
            )
        yield with_budget(Merge(total, found=start.found), count // len(stage.tasks), steps)
