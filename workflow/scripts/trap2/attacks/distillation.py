"""The protected model distilled into a fresh update, which is merged as if never protected (ours).

The protected model is a teacher that works at its nominal point, s = 1.  Whoever has some images of
its task, without labels, has its answers to them, and an update that was trained on these is not
sharp.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from trap2.attacks.coefficients import then_merge
from trap2.attacks.fresh import budgets, train, with_budget
from trap2.attacks.stage import Merge, Stage
from trap2.data.prepared import SplitName
from trap2.models.scoring import Score
from trap2.models.task import Batch, Model, Reduction, Task
from trap2.runtime.catalogue import Options
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import dense_layers


@dataclass(frozen=True)
class Answers:
    """A teacher's answers to images, as a task to be learned; every split is these images.

    The loss is the divergence KL(teacher ‖ student) of the classes' probabilities by the zero-shot
    head, at temperature 1: it weights features by what the head reads of them, where a distance of
    features would not.

    Attributes:
        task: the images' task; only its logits are used.
        inputs: (n, …).
        teacher: (n, classes) logits.
    """

    task: Task
    inputs: torch.Tensor
    teacher: torch.Tensor

    @property
    def batch_size(self) -> int:
        """Examples of a forward pass without gradients."""
        return self.task.batch_size

    def labels(self, _split: SplitName) -> np.ndarray:
        """Every image's place: no labels are known."""
        return np.arange(len(self.inputs))

    def batch(self, _split: SplitName, chosen: np.ndarray) -> Batch:
        """Images, labelled with their places."""
        places = torch.from_numpy(np.asarray(chosen)).to(self.inputs.device)
        return Batch(self.inputs[places], places)

    def logits(self, output: torch.Tensor) -> torch.Tensor:
        """The logits of the images' task."""
        return self.task.logits(output)

    def loss(self, model: Model, batch: Batch, *, reduction: Reduction = "mean") -> torch.Tensor:
        """KL(teacher ‖ student) in nats, the mean over the images or the sum."""
        student = self.logits(model(batch.inputs)).log_softmax(1)
        teacher = self.teacher[batch.labels].log_softmax(1)
        how = "batchmean" if reduction == "mean" else "sum"
        return F.kl_div(student, teacher, reduction=how, log_target=True)

    @torch.no_grad()
    def score(self, model: Model, _split: SplitName) -> Score:
        """On how many images student and teacher agree, and the mean loss."""
        agreed, loss = 0, 0.0
        for places in np.array_split(np.arange(len(self.inputs)), self._parts()):
            batch = self.batch("train", places)
            student, teacher = self.logits(model(batch.inputs)), self.teacher[batch.labels]
            agreed += int((student.argmax(1) == teacher.argmax(1)).sum())
            loss += float(
                F.kl_div(
                    student.log_softmax(1), teacher.log_softmax(1), reduction="sum", log_target=True
                )
            )
        return Score(agreed, len(self.inputs), loss / len(self.inputs))

    def _parts(self) -> int:
        return -(-len(self.inputs) // self.batch_size)


def answers(stage: Stage, images: int) -> Answers:
    """The protected model's answers to unlabelled images of its task.

    Args:
        stage: where.
        images: of the task's training split; all of them if there are fewer.
    """
    task = stage.tasks[stage.protected]
    inputs = stage.sample(stage.protected, images, labelled=False).inputs
    with AppliedUpdate(stage.model, dense_layers(stage.updates[stage.protected])) as applied:
        applied.set(1.0)
        with torch.no_grad():
            parts = [task.logits(stage.model(part)) for part in inputs.split(task.batch_size)]
    return Answers(task, inputs, torch.cat(parts))


def distillation(stage: Stage, options: Options) -> Iterator[Merge]:
    """Distil the protected model into a fresh update, and merge that by Task Arithmetic.

    Args:
        stage: where.
        options: ``images``, ``steps``, ``points``, ``then`` and those of
            :func:`trap2.attacks.fresh.train`.

    Yields:
        A merge for each budget of :func:`trap2.attacks.fresh.budgets`.
    """
    for images, steps in budgets(options["images"], options["steps"], options["points"]):
        task = answers(stage, images)
        count = len(task.inputs)
        mine = train(stage, task, options, images=count, steps=steps, validations=1)
        merge = then_merge(stage, {**stage.updates, stage.protected: mine}, options["then"])
        yield with_budget(merge, count, steps)
