"""What ordinary use does to an update: its standalone accuracy after each treatment (ours)."""

from __future__ import annotations

from collections.abc import Iterable

from trap2.evaluation.treatments import TREATMENTS
from trap2.report.shapes import Point
from trap2.report.tables.columns import UPDATE
from trap2.report.tables.rows import facts_of, mean
from trap2.updates.records import HandlingRecord, ScoreRecord

_NUMBERS = ("accuracy", "released", "change", "relative", "lowest_task", "lowest_relative")

COLUMNS = [*UPDATE, "treatment", "title", *_NUMBERS, "tasks", "reason"]


def handling_rows(records: Iterable[HandlingRecord]) -> list[Point]:
    """A row a treatment: mean test accuracy over the tasks, beside the same updates as released.

    ``change`` is in percentage points, ``relative`` in percent of ``released``; ``lowest_task`` is
    the one that keeps least.  A task whose model is broken (NaN) counts as 0 %; where a treatment
    has no score at all, ``reason`` says why.

    Args:
        records: the first treatment of each is the update as released.
    """
    return [_row(record, treatment) for record in records for treatment in record["treatments"]]


def _row(record: HandlingRecord, treatment: str) -> Point:
    released = record["treatments"][0]
    before = {task: _accuracy(found[released]) for task, found in record["tasks"].items()}
    found = {task: scores.get(treatment) for task, scores in record["tasks"].items()}
    row: Point = {**facts_of(record), "treatment": treatment}
    row["title"] = TREATMENTS[treatment].title if treatment in TREATMENTS else treatment
    row["reason"] = record["reasons"].get(treatment, "")
    row["tasks"] = sum(score is not None for score in found.values())
    if not row["tasks"]:
        return row | dict.fromkeys(_NUMBERS)
    after = {task: _accuracy(score) for task, score in found.items()}
    shares = {task: _share(after[task], before[task]) for task in after}
    lowest = min(shares, key=lambda task: shares[task])
    accuracy, base = mean(after.values()), mean(before.values())
    return row | {
        "accuracy": accuracy,
        "released": base,
        "change": accuracy - base,
        "relative": _share(accuracy, base),
        "lowest_task": lowest,
        "lowest_relative": shares[lowest],
    }


def _accuracy(score: ScoreRecord | None) -> float:
    return 0.0 if score is None else score["accuracy"]


def _share(value: float, whole: float) -> float:
    return 100 * value / whole if whole else 100.0
