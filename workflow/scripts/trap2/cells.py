"""Cells of Table 2: one merge of a set of updates, its coefficient searched on validation.

A cell's accuracy on the test split is read once, at the coefficient that validation chose
(paper, Appendix D.6; the search metric follows the authors' code).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trap2 import released
from trap2.data.arrays import Split
from trap2.evaluation import Score, score


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


def cell_key(parts: Mapping[str, Any]) -> str:
    """What a cell depends on, as one digest; an equal key means that nothing changed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def cell_record(
    scorer: Scorer, found: Any, apply: Callable[[float], None], tasks: list[str]
) -> dict[str, Any]:
    """Apply the chosen coefficient, read the test split, and describe the cell."""
    apply(found.coefficient)
    val, test = scorer.scores("val"), scorer.scores("test")
    return {
        "coefficient": found.coefficient,
        "normalised_val_accuracy": found.value,
        "trace": found.trace,
        "val": {task: released.score_record(val[task]) for task in tasks},
        "test": {task: released.score_record(test[task]) for task in tasks},
    }
