"""The tasks of an evaluation: what scoring a model on each of them needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from trap2.data.prepared import Split, open_task
from trap2.data.proxy import proxy_sample
from trap2.models.clip.classifier import score
from trap2.models.clip.heads import read_head
from trap2.models.clip.tower import normalise
from trap2.models.scoring import Score
from trap2.runtime import files
from trap2.runtime.seeding import numpy_generator


@dataclass(frozen=True)
class Task:
    """What evaluating a merged model on one task needs.

    Attributes:
        head: zero-shot head (C, d).
        val, test: the task's splits.
        reference: the unprotected update's validation accuracy in percent, the denominator of
            the normalised accuracy.
    """

    head: torch.Tensor
    val: Split
    test: Split
    reference: float


def reference_accuracy(path: str) -> tuple[str, float]:
    """The task and the validation accuracy (percent) of an update's record.

    Raises:
        FileError: the record has none, or one by which nothing can be divided.
    """
    record = files.read_json(path)
    scores = record.get("val") if isinstance(record, dict) else None
    accuracy = scores.get("accuracy") if isinstance(scores, dict) else None
    if not isinstance(accuracy, int | float) or not 0 < accuracy <= 100:
        raise files.FileError(
            f"{path}: 'val.accuracy' is {str(accuracy)[:40]}; normalised accuracy divides by it, "
            "so it must be more than 0 and at most 100. Give the record of an update that works"
        )
    if not isinstance(record.get("task"), str):
        raise files.FileError(f"{path}: not an update's record; it lacks 'task'.")
    return record["task"], accuracy


def open_tasks(
    names: Iterable[str], data: list[str], heads: Iterable[str], references: Iterable[str]
) -> dict[str, Task]:
    """The tasks of a merge, from a job's input files.

    Args:
        names: the tasks, in order.
        data: prepared files of all tasks, validation and test.
        heads: all tasks' zero-shot heads, ``{task}.safetensors``.
        references: the unprotected updates' records, ``update.json``.
    """
    head = {Path(path).stem: read_head(path) for path in heads}
    reference = dict(map(reference_accuracy, references))
    return {
        name: Task(
            head[name],
            open_task(data, name, "val"),
            open_task(data, name, "test"),
            reference[name],
        )
        for name in names
    }


@dataclass(frozen=True)
class Scorer:
    """Scores one model on several tasks."""

    model: nn.Module
    tasks: Mapping[str, Task]
    logit_scale: float
    batch_size: int
    device: torch.device

    def scores(self, split: str) -> dict[str, Score]:
        """The model, with the weights it holds now, on every task's split."""
        return {
            name: score(
                self.model,
                task.head,
                self.logit_scale,
                task.val if split == "val" else task.test,
                batch_size=self.batch_size,
                device=self.device,
            )
            for name, task in self.tasks.items()
        }

    def normalised_accuracy(self) -> float:
        """Mean over the tasks of validation accuracy / the unprotected update's (percent)."""
        scores = self.scores("val")
        ratios = [scores[name].accuracy / task.reference for name, task in self.tasks.items()]
        return 100.0 * sum(ratios) / len(ratios)


_BATCH = 50


def proxy_batches(
    split: Split, task: str, *, samples: int, sampling: str, seed: int, device: torch.device
) -> list[torch.Tensor]:
    """A task's sample as normalised images (n, 3, H, W), in batches."""
    generator = numpy_generator(seed, "proxy sample", task, sampling)
    chosen = proxy_sample(split.labels, samples, sampling, generator)
    images = torch.from_numpy(split.images[chosen].copy())
    return [normalise(batch.to(device)) for batch in images.split(_BATCH)]
