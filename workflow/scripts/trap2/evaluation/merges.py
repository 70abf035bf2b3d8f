"""One set of updates, merged in every method and space: a file of cells.

What an earlier run left in the file stays where it is still valid, so that a new method costs its
own cells and nothing else, and a killed job goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from trap2.evaluation.cells import Search, cell_key, is_whole, seal, search_cell
from trap2.evaluation.tasks import Scorer
from trap2.merging.merger import Merger
from trap2.runtime import files
from trap2.updates.delta import Update
from trap2.updates.records import CellRecord, MergeRecord, Options


@dataclass(frozen=True)
class MergePlan:
    """How one set of updates is merged.

    Attributes:
        cells: (method, space) of every cell, in order.
        options: the configured options of methods that have some.
        search: how the coefficient is searched.
    """

    cells: Sequence[tuple[str, str]]
    options: Mapping[str, Options]
    search: Search


def merge_updates(
    scorer: Scorer,
    updates: Sequence[Update],
    plan: MergePlan,
    record: MergeRecord,
    depends_on: Mapping[str, object],
    *,
    output: Path,
    log: Callable[[str], None],
) -> None:
    """Make every cell of a plan that the file of an earlier run lacks, and write the file.

    The file is written after each cell, with the earlier run's cells that are not due yet.

    Args:
        scorer: the base model with the tasks to score it on.
        updates: one a task.
        plan: the cells.
        record: what the file says besides its cells.
        depends_on: what else the cells depend on: digests of the inputs, of the code and so on.
        output: the file; cells in it whose key fits are taken over.
        log: receives a line a cell.
    """
    common = {
        **depends_on,
        "references": {name: task.reference for name, task in scorer.tasks.items()},
        "search": asdict(plan.search),
        "device": scorer.device.type,
        "batch_size": scorer.batch_size,
    }
    earlier, made = earlier_cells(output), dict[str, CellRecord]()
    mergers = _Mergers(updates)
    for method, space in plan.cells:
        column, options = f"{method}-{space}", plan.options.get(method, {})
        key = cell_key({**common, "method": method, "space": space, "options": options})
        cell = earlier.get(column)
        if cell is None or cell.get("key") != key:
            started = time.monotonic()
            found = search_cell(scorer, mergers.of(space), method, options, plan.search)
            cell = seal(
                {
                    **found,
                    "merge_method": method,
                    "merge_space": space,
                    "key": key,
                    "seconds": round(time.monotonic() - started, 2),
                    "digest": "",
                }
            )
        log(
            f"{column}: s = {cell['coefficient']:g}, normalised validation accuracy "
            f"{cell['normalised_val_accuracy']:.2f} %, {cell['seconds']} s"
        )
        made[column] = cell
        files.write_json(output, {**record, "cells": earlier | made})
    files.write_json(output, {**record, "cells": made})


@dataclass(frozen=True)
class _Mergers:
    """The updates encoded in each space, when a cell first needs it."""

    updates: Sequence[Update]
    made: dict[str, Merger] = field(default_factory=dict)

    def of(self, space: str) -> Merger:
        if space not in self.made:
            self.made[space] = Merger(list(self.updates), space)
        return self.made[space]


def earlier_cells(path: Path) -> dict[str, CellRecord]:
    """The cells of an earlier run; without what was damaged since."""
    try:
        cells = files.read_json(path)["cells"]
        return {column: cell for column, cell in cells.items() if is_whole(cell)}
    except (files.FileError, AttributeError, KeyError, TypeError):
        return {}


def input_digests(paths: Iterable[str]) -> dict[str, str]:
    """SHA-256 of a job's inputs, but the arrays, whose manifests hold theirs, and records."""
    return {
        path: files.sha256(path) for path in paths if not path.endswith((".npy", "update.json"))
    }
