"""What evaluations read: a base model with the tasks that it is scored on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from torch import nn

from trap2.data.prepared import SplitName, notes
from trap2.data.proxy import proxy_sample
from trap2.models.clip.classifier import open_classifier
from trap2.models.clip.tower import load_tower
from trap2.models.scoring import Score
from trap2.models.task import Task
from trap2.runtime import device as devices
from trap2.runtime import files
from trap2.runtime.script import Snakemake
from trap2.runtime.seeding import numpy_generator
from trap2.runtime.versions import versions


class Origin(TypedDict):
    """Where a job computed, with what, and what its data's manifests say."""

    device: str
    versions: dict[str, str]
    notes: list[str]


@dataclass(frozen=True)
class Bench:
    """A base model with the tasks that it is scored on.

    Attributes:
        model: holds W0.
        tasks: by name, in the configured order.
        origin: for the record.
    """

    model: nn.Module
    tasks: Mapping[str, Task]
    origin: Origin


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


def open_bench(snakemake: Snakemake, *splits: SplitName) -> Bench:
    """The bench of a job, from a script's ``snakemake`` object.

    Its rule has the inputs ``model``, ``heads`` and ``data`` and the parameters ``backbone``,
    ``tasks``, ``logit_scale``, ``batch_size`` and ``device``.
    """
    params, data = snakemake.params, list(snakemake.input.data)
    device = devices.device(params.device, snakemake.threads)
    heads = {Path(path).stem: path for path in snakemake.input.heads}
    tasks = {
        task: open_classifier(
            heads[task],
            data,
            task,
            splits,
            logit_scale=params.logit_scale,
            batch_size=params.batch_size,
            device=device,
        )
        for task in params.tasks
    }
    model = load_tower(snakemake.input.model, params.backbone, device)
    origin: Origin = {"device": device.type, "versions": versions(), "notes": notes(data)}
    return Bench(model, tasks, origin)


@dataclass(frozen=True)
class Scorer:
    """Scores one model on several tasks.

    Attributes:
        model: scored with the weights that it holds when asked.
        tasks: by name.
        references: the unprotected updates' validation accuracies in percent by task, the
            denominators of the normalised accuracy.
    """

    model: nn.Module
    tasks: Mapping[str, Task]
    references: Mapping[str, float]

    @classmethod
    def of(cls, bench: Bench, references: Iterable[str]) -> Scorer:
        """A bench's scorer, with the files of the unprotected updates' records.

        Raises:
            FileError: a record has no accuracy that can be divided by.
        """
        return cls(bench.model, bench.tasks, dict(map(reference_accuracy, references)))

    def scores(self, split: SplitName) -> dict[str, Score]:
        """The model, with the weights it holds now, on every task's split."""
        return {name: task.score(self.model, split) for name, task in self.tasks.items()}

    def normalised_accuracy(self) -> float:
        """Mean over the tasks of validation accuracy / the unprotected update's (percent)."""
        return self.normalised(self.scores("val"))

    def normalised(self, scores: Mapping[str, Score]) -> float:
        """The same of every task's score."""
        ratios = [scores[name].accuracy / self.references[name] for name in self.tasks]
        return 100.0 * sum(ratios) / len(ratios)


# A regression's Gram matrices are summed over such batches; a smaller configured batch size holds.
_SAMPLE_BATCH = 50


def proxy_batches(
    task: Task, name: str, *, samples: int, sampling: str, seed: int
) -> list[torch.Tensor]:
    """A sample of a task's validation split as a model's inputs, in batches.

    Args:
        task: the task.
        name: its name, which with the seed decides the draw.
        samples: examples to take.
        sampling: as in :func:`trap2.data.proxy.proxy_sample`.
        seed: the configuration's seed.
    """
    generator = numpy_generator(seed, "proxy sample", name, sampling)
    chosen = proxy_sample(task.labels("val"), samples, sampling, generator)
    size = min(_SAMPLE_BATCH, task.batch_size)
    parts = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    return [task.batch("val", part).inputs for part in parts]
