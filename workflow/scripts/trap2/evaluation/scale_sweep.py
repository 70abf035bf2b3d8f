"""An update over its scale: accuracy and loss at W0 + s·ΔW (Figures 2, 5 and 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from torch import nn

from trap2.data.prepared import SplitName
from trap2.evaluation.tasks import Bench
from trap2.merging.merger import Merger
from trap2.models.scoring import score_record
from trap2.models.task import Task
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import Update
from trap2.updates.records import ScaleRecord
from trap2.updates.stored import load_update


def sweep_scale(
    model: nn.Module, task: Task, split: SplitName, update: Update, scales: Iterable[float]
) -> list[ScaleRecord]:
    """Score an update at several scales.

    Args:
        model: the base W0; it holds W0 again afterwards.
        task: what it is scored on.
        split: of the task.
        update: ΔW.
        scales: values of s.

    Returns:
        A record a scale, with ``s``.

    Raises:
        UpdateError: the update does not fit the model.
    """
    records: list[ScaleRecord] = []
    with AppliedUpdate(model, Merger([update]).merge("TA")) as applied:
        for s in scales:
            applied.set(s)
            records.append({**score_record(task.score(model, split)), "s": s})
    return records


def sweep_scales(
    bench: Bench,
    paths: Iterable[str],
    model: str | Path,
    scales: Iterable[float],
    log: Callable[[str], None],
) -> dict[str, list[ScaleRecord]]:
    """Score every task's update at several scales, on its test split.

    Args:
        bench: the base model with the tasks.
        paths: the updates' files, ``…/{task}/{protection}/…``.
        model: the file of W0.
        scales: values of s.
        log: receives a line a task.
    """
    folders = {Path(path).parent.parent.name: Path(path).parent for path in paths}
    grid, sweeps = list(scales), dict[str, list[ScaleRecord]]()
    for name, task in bench.tasks.items():
        update = load_update(folders[name], model)
        sweeps[name] = sweep_scale(bench.model, task, "test", update, grid)
        log(f"{name}: {len(grid)} scales")
    return sweeps
