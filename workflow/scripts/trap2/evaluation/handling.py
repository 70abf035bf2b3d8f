"""Does ordinary use break an update?  Its score alone after each treatment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from trap2.data.prepared import SplitName
from trap2.evaluation.handled import Subject, as_model
from trap2.evaluation.tasks import Bench
from trap2.evaluation.treatments import TREATMENTS
from trap2.models.scoring import score_record
from trap2.models.task import Task
from trap2.runtime.errors import Trap2Error
from trap2.updates.records import ScoreRecord
from trap2.updates.stored import load_update

Found = tuple[dict[str, ScoreRecord | None], dict[str, str]]
"""Scores by treatment, None where there is none, and the reasons of those."""


def handle_update(
    subject: Subject, task: Task, split: SplitName, treatments: Iterable[str]
) -> Found:
    """Score an update after each treatment, alone.

    Args:
        subject: the update on its base.
        task: what it is scored on.
        split: of the task.
        treatments: names of :data:`TREATMENTS`.

    Returns:
        Scores by treatment, ``None`` where one does not apply or its model gives NaN or infinity,
        and the reasons of those by treatment.
    """
    scores: dict[str, ScoreRecord | None] = {}
    reasons: dict[str, str] = {}
    for name in treatments:
        scores[name] = None
        if TREATMENTS[name].factors and not subject.has_factors:
            reasons[name] = (
                "acts on factors, and this update has none (a whole checkpoint, or DoRA)"
            )
            continue
        model = as_model(subject.model, TREATMENTS[name].handle(subject))
        try:
            scores[name] = score_record(task.score(model, split))
        except Trap2Error as error:
            reasons[name] = str(error)
    return scores, reasons


def handle_updates(
    bench: Bench,
    paths: Iterable[str],
    model: str | Path,
    *,
    rank: int,
    log: Callable[[str], None],
) -> tuple[dict[str, dict[str, ScoreRecord | None]], dict[str, str]]:
    """Score every task's update after every treatment, on its test split.

    Args:
        bench: the base model with the tasks; it is not changed.
        paths: the updates' files, ``…/{task}/{protection}/…``.
        model: the file of W0.
        rank: at which whole checkpoints are extracted; adapters have their own.
        log: receives a line a task.

    Returns:
        Scores by task and treatment, and why some are ``None``, by treatment.
    """
    folders = {Path(path).parent.parent.name: Path(path).parent for path in paths}
    scores: dict[str, dict[str, ScoreRecord | None]] = {}
    reasons: dict[str, str] = {}
    for name, task in bench.tasks.items():
        subject = Subject.of(bench.model, load_update(folders[name], model), rank)
        scores[name], why = handle_update(subject, task, "test", TREATMENTS)
        reasons |= why
        log(f"{name}: {len(TREATMENTS) - len(why)} treatments")
    return scores, reasons
