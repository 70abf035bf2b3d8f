"""The names of the files behind the tables and figures of the sibling papers' protocols."""

from __future__ import annotations

import sys

from trap2.suites.files import Files, Wildcards
from trap2.suites.sibling_tables import ANCHOR, TABLES
from trap2.suites.siblings import (
    curve_task,
    paths_of,
    sibling_backbones,
    sibling_protections,
    siblings_not_applicable,
)

SIBLINGS_PUBLISHED = [
    f"config/published/{name}.csv" for name, table in TABLES.items() if table.paper != ANCHOR
]
"""The published numbers of the sibling papers."""


class SiblingFiles:
    """The names of the records of the protocols, all of whole checkpoints.

    A suite that has none of the protocols, or released checkpoints, end the run with the reason
    (``SystemExit``), before any job.

    Args:
        files: the names of the run's files.
    """

    def __init__(self, files: Files) -> None:
        self.files = files

    def first(self, w: Wildcards) -> list[str]:
        """All records of the first backbone: pairs by every method, curves and paths."""
        return self._records(w, self._backbones(w)[0])

    def last(self, w: Wildcards) -> list[str]:
        """All records of the last backbone: pairs by Task Arithmetic, merges of all."""
        return self._records(w, self._backbones(w)[-1])

    def both(self, w: Wildcards) -> list[str]:
        """All records of all backbones."""
        return [file for name in self._backbones(w) for file in self._records(w, name)]

    def curves(self, w: Wildcards) -> list[str]:
        """The records of the first backbone whose protected task is that of the curves."""
        suite = self.files.suites(w.suite)
        return self._records(w, self._backbones(w)[0], [curve_task(suite)])

    def paths(self, w: Wildcards) -> list[str]:
        """The records of the first backbone whose protected task begins a path."""
        begun = {first for first, _ in paths_of(self.files.suites(w.suite))}
        tasks = [task for task in self.files.suites(w.suite).tasks if task in begun]
        return self._records(w, self._backbones(w)[0], tasks)

    def table(self, w: Wildcards) -> list[str]:
        """The records behind a table."""
        return self.first(w) if TABLES[w.artifact].first else self.last(w)

    def figure(self, w: Wildcards) -> list[str]:
        """The records behind a figure of Merge-Lock's paper."""
        return (self.paths(w) if w.number == "4" else []) or self.curves(w)

    def published(self, w: Wildcards) -> list[str]:
        """The published numbers of a table; none where there are none."""
        return [path for path in SIBLINGS_PUBLISHED if path.endswith(f"/{w.artifact}.csv")]

    def notes(self, w: Wildcards) -> list[str]:
        """What a reader must know of a table's backbone, a note each."""
        table, backbones = TABLES[w.artifact], self._backbones(w)
        if table.first or len(backbones) > 1:
            return []
        return [
            f"The suite has one backbone of these protocols, {backbones[0]}, which Merge-Lock's "
            "Table 1 shows too; the paper's table is of a larger one."
        ]

    def curve_task(self, w: Wildcards) -> str:
        """The protected task of Merge-Lock's Figures 2 and 3."""
        return curve_task(self.files.suites(w.suite))

    def zero_shot(self, w: Wildcards) -> str:
        """The record of the zero-shot head of a job's protected task."""
        return f"{self.files.root}/{w.suite}/{w.backbone}/heads/{w.protected}.json"

    def _backbones(self, w: Wildcards) -> list[str]:
        suite = self.files.suites(w.suite)
        reason = siblings_not_applicable(w.suite, suite)
        if reason is None and self.files.released:
            reason = (
                "the protocols of the sibling papers merge whole checkpoints, and the released "
                "ones are adapters; set checkpoints: train to make them"
            )
        if reason is not None:
            sys.exit(reason)
        return sibling_backbones(suite)

    def _records(self, w: Wildcards, backbone: str, tasks: list[str] | None = None) -> list[str]:
        suite = self.files.suites(w.suite)
        return [
            f"{self.files.root}/{w.suite}/{backbone}/full/siblings/{protection}/{task}.json"
            for protection in sibling_protections(suite, backbone)
            for task in (suite.tasks if tasks is None else tasks)
        ]
