"""One set of updates, merged in every method and space: a file of cells.

What an earlier run left in the file stays where it is still valid, so that a new method costs its
own cells and nothing else, and a killed job goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import torch

from trap2.evaluation.cells import cell_key, data_cell, is_whole, seal, search_cell
from trap2.evaluation.tasks import Scorer, proxy_batches
from trap2.merging.catalogue import METHODS, data_column
from trap2.merging.merger import Merger
from trap2.merging.settings import Search
from trap2.runtime import files
from trap2.updates.delta import Update
from trap2.updates.records import CellRecord, MergeRecord, Options


@dataclass(frozen=True)
class MergePlan:
    """How one set of updates is merged.

    Attributes:
        cells: (method, space) of every cell, in order; of a method with data (method, sampling).
        options: the configured options of methods that have some.
        code: the digest of each method's code.
        search: how the coefficient is searched; merges with data have none.
        samples: images a task that a method with data sees.
        seed: with task and sampling it decides which.
    """

    cells: Sequence[tuple[str, str]]
    options: Mapping[str, Options]
    code: Mapping[str, str]
    search: Search | None = None
    samples: int = 0
    seed: int = 0


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
        "references": scorer.references,
        "device": record.get("device"),
        "batch_size": {name: task.batch_size for name, task in scorer.tasks.items()},
    }
    earlier, made = earlier_cells(output), dict[str, CellRecord]()
    maker = _Maker(scorer, updates, plan)
    for method, place in plan.cells:
        column = maker.column(method, place)
        key = cell_key({**common, **maker.depends_on(method, place)})
        cell = earlier.get(column)
        if cell is None or cell.get("key") != key:
            started = time.monotonic()
            found = maker.cell(method, place)
            cell = seal({**found, "key": key, "seconds": round(time.monotonic() - started, 2)})
        log(f"{column}: {_result(cell)}, {cell['seconds']} s")
        made[column] = cell
        files.write_json(output, {**record, "cells": earlier | made})
    files.write_json(output, {**record, "cells": made})


def _result(cell: CellRecord) -> str:
    value = f"normalised validation accuracy {cell['normalised_val_accuracy']:.2f} %"
    if "coefficient" not in cell:
        return value
    images = cell["images"]
    searched = f"{images['validated']} of {images['plain']} images"
    return f"s = {cell['coefficient']:g}, {value}, {searched}"


@dataclass(frozen=True)
class _Maker:
    """Makes cells; spaces are encoded, and samples are drawn, when a cell first needs them."""

    scorer: Scorer
    updates: Sequence[Update]
    plan: MergePlan
    mergers: dict[str, Merger] = field(default_factory=dict)
    samples: dict[str, list[list[torch.Tensor]]] = field(default_factory=dict)

    def column(self, method: str, place: str) -> str:
        """What a cell is called in tables."""
        return data_column(method, place) if _sees_data(method) else f"{method}-{place}"

    def depends_on(self, method: str, place: str) -> dict[str, object]:
        """What a cell depends on that others do not."""
        own = {
            "method": method,
            "options": self.plan.options.get(method, {}),
            "method_code": self.plan.code[method],
        }
        if _sees_data(method):
            drawn = {"samples": self.plan.samples, "seed": self.plan.seed}
            return {**own, **drawn, "sampling": place}
        return {**own, "space": place, "search": asdict(self._search())}

    def cell(self, method: str, place: str) -> CellRecord:
        """Make a cell."""
        options = self.plan.options.get(method, {})
        unsealed = {"seconds": 0.0, "key": "", "digest": ""}
        if _sees_data(method):
            drawn = self._drawn(place)
            data = data_cell(self.scorer, drawn, self.updates, method, options)
            facts = {"merge_method": data_column(method, place), "merge_space": "Full"}
            return cast(CellRecord, {**data, **facts, **unsealed})
        if place not in self.mergers:
            self.mergers[place] = Merger(list(self.updates), place)
        merger, search = self.mergers[place], self._search()
        found = search_cell(self.scorer, merger, method, options, search, self.plan.seed)
        facts = {"merge_method": method, "merge_space": place}
        return cast(CellRecord, {**found, **facts, **unsealed})

    def _drawn(self, sampling: str) -> list[list[torch.Tensor]]:
        if sampling not in self.samples:
            self.samples[sampling] = [
                proxy_batches(
                    task,
                    name,
                    samples=self.plan.samples,
                    sampling=sampling,
                    seed=self.plan.seed,
                )
                for name, task in self.scorer.tasks.items()
            ]
        return self.samples[sampling]

    def _search(self) -> Search:
        assert self.plan.search is not None, "a method without data needs a search"
        return self.plan.search


def _sees_data(method: str) -> bool:
    return METHODS[method].needs != "nothing"


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
