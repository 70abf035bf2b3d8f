"""Cells of Table 2: one merge of a set of updates, its coefficient searched on validation.

A cell's accuracy on the test split is read once, at the coefficient that validation chose
(paper, Appendix D.6; the search metric follows the authors' code).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trap2 import files, released
from trap2.clip.heads import read_head
from trap2.data.arrays import Split
from trap2.evaluation import Score, score
from trap2.merging import Merger, check_options
from trap2.sweep import PUBLISHED_OPTION_GRIDS, AppliedUpdate, search_options


@dataclass(frozen=True)
class Task:
    """What evaluating a merged tower on one task needs.

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
    reference = {
        record["task"]: record["val"]["accuracy"] for record in map(files.read_json, references)
    }
    return {
        name: Task(
            head[name],
            released.open_task(data, name, "val"),
            released.open_task(data, name, "test"),
            reference[name],
        )
        for name in names
    }


@dataclass(frozen=True)
class Scorer:
    """Scores one tower on several tasks."""

    tower: nn.Module
    tasks: Mapping[str, Task]
    logit_scale: float
    batch_size: int
    device: torch.device

    def scores(self, split: str) -> dict[str, Score]:
        """The tower, with the weights it holds now, on every task's split."""
        return {
            name: score(
                self.tower,
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


@dataclass(frozen=True)
class Search:
    """How a cell's coefficient is searched (Appendix D.6), as configured.

    Attributes:
        step: step of the grid and its first value.
        maximum: last value of the grid.
        patience: values without improvement before the search stops.
        second_hyperparameter: search the method's second hyperparameter too, as the authors'
            code does.
    """

    step: float
    maximum: float
    patience: int
    second_hyperparameter: bool


def cell_key(parts: Mapping[str, Any]) -> str:
    """What a cell depends on, as one digest; an equal key means that nothing changed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def seal(cell: dict[str, Any]) -> dict[str, Any]:
    """The cell with a digest of its content, for :func:`is_whole`."""
    return cell | {"digest": cell_key(cell)}


def is_whole(cell: Mapping[str, Any]) -> bool:
    """Whether a cell of an earlier run is still what was written."""
    content = {key: value for key, value in cell.items() if key != "digest"}
    return cell.get("digest") == cell_key(content)


def sweep_cell(
    scorer: Scorer, merger: Merger, method: str, options: Mapping[str, Any], search: Search
) -> dict[str, Any]:
    """Merge, search the coefficient on validation, and read the test split once.

    Args:
        scorer: the base tower with the tasks to score it on; it holds W0 again afterwards.
        merger: the updates, encoded in one space.
        method: a merging method of that space.
        options: the method's configured options.
        search: the search's settings.

    Returns:
        The cell's record: coefficient, options, the search's trace, and every task's score on
        both splits.
    """
    complete = check_options(method, options)
    grids = PUBLISHED_OPTION_GRIDS.get(method, {}) if search.second_hyperparameter else {}
    trace: list[dict[str, Any]] = []
    with _Merged(scorer.tower, merger, method) as merged:

        def evaluate(s: float, tried: Mapping[str, Any]) -> float:
            merged.set(s, tried)
            value = scorer.normalised_accuracy()
            trace.append({"s": s, "value": value} | ({"options": tried} if grids else {}))
            return value

        found = search_options(
            evaluate,
            complete,
            grids,
            step=search.step,
            maximum=search.maximum,
            patience=search.patience,
        )
        merged.set(found.coefficient, found.options)
        val, test = scorer.scores("val"), scorer.scores("test")
    return {
        "coefficient": found.coefficient,
        "options": found.options,
        "normalised_val_accuracy": found.value,
        "trace": trace,
        "val": {task: released.score_record(result) for task, result in val.items()},
        "test": {task: released.score_record(result) for task, result in test.items()},
    }


class _Merged(AbstractContextManager["_Merged"]):
    """The tower at W0 + s·M(options), merging anew only when the options change."""

    def __init__(self, tower: nn.Module, merger: Merger, method: str) -> None:
        self.tower, self.merger, self.method = tower, merger, method
        self.options: dict[str, Any] | None = None
        self.applied: AppliedUpdate | None = None

    def set(self, s: float, options: Mapping[str, Any]) -> None:
        if self.applied is None or self.options != options:
            self._restore()
            self.options = dict(options)
            merged = self.merger.merge_layers(self.method, **options)
            self.applied = AppliedUpdate(self.tower, merged)
        self.applied.set(s)

    def _restore(self) -> None:
        if self.applied is not None:
            self.applied.restore()

    def __exit__(self, *_error: object) -> None:
        self._restore()
