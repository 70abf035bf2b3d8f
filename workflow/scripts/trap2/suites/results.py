"""What is asked for of a run, and what it publishes, lists and releases."""

from __future__ import annotations

import sys
from pathlib import Path

from trap2.suites import ablations, artifacts, paper
from trap2.suites.files import UPDATE_FILES, Files, Wildcards

REFERENCE_TABLES = ("table1.csv", "table2.csv", "cells.csv")
"""The tables that go with released checkpoints."""


class Results:
    """The names of what a run makes in all, and of what belongs to it.

    Args:
        files: the names of the run's files.
    """

    def __init__(self, files: Files) -> None:
        self.files = files

    def plain(self) -> list[str]:
        """What a run without a target makes of the configured suite."""
        return artifacts.plain_names(self.files.default_formats(self.files.config.suite))

    def all(self, suite: str) -> list[str]:
        """Everything that a suite can show; from released checkpoints nothing is trained."""
        figures = self.files.has_figures(suite)
        swept = figures and not self.files.released
        shown = ablations.swept(self.files.suites(suite)) if swept else {}
        return artifacts.all_names(figures=figures, ablations=shown)

    def finished(self, w: Wildcards) -> list[str]:
        """The configured suite's artifacts of a run without a target, and their manifest."""
        return [f"{self.files.root}/{name}" for name in [*self.plain(), "manifest.json"]]

    def everything(self, w: Wildcards) -> list[str]:
        """All artifacts of the configured suite, and the lists of the files behind them."""
        names = [
            *self.all(self.files.config.suite),
            "manifest.json",
            "manifest_all.json",
        ]
        return [f"{self.files.root}/{name}" for name in names]

    def threats(self, w: Wildcards) -> list[str]:
        """All about attacks and handling, of the configured suite."""
        return [f"{self.files.root}/{name}" for name in artifacts.section_names(artifacts.THREATS)]

    def siblings(self, w: Wildcards) -> list[str]:
        """The sibling papers' tables and figures, of the configured suite."""
        return [f"{self.files.root}/{name}" for name in artifacts.section_names(artifacts.SIBLINGS)]

    def pages(self, w: Wildcards) -> list[str]:
        """The report's pages of those artifacts that the configured suite has."""
        suite = self.files.config.suite
        shown = [name for name in self.all(suite) if name in artifacts.PAGES]
        return [f"{self.files.root}/{suite}/pages/{name}.html" for name in shown]

    def manifested(self, w: Wildcards) -> list[str]:
        """The artifacts that a manifest lists; that of all artifacts is made last."""
        # The summary holds the manifest's digest.
        names = [name for name in self.plain() if name != "summary.txt"]
        if w.manifest == "manifest_all":
            names = [*self.all(w.suite), "manifest.json"]
        return [f"{self.files.root}/{w.suite}/{name}" for name in names]

    def misplaced(self, w: Wildcards) -> list[str]:
        """Nothing: a file that another kind of run makes ends this one."""
        checkpoints = "train" if self.files.released else "released"
        sys.exit(
            f"{self.files.elsewhere}/{w.file} is made with checkpoints: {checkpoints}. Ask for "
            f"{self.files.root}/{w.file}, or set checkpoints: {checkpoints}"
        )

    def places(self) -> dict[str, str]:
        """Where the summary's readers look next, and what is there."""
        return {f"{self.files.root}/{name}": brief for name, brief in artifacts.BRIEFS.items()}

    def manifests(self) -> list[str]:
        """The lists of the files behind the results of the configured suite."""
        folder = f"{self.files.root}/{self.files.replicas(self.files.config.suite)[0]}"
        return [f"{folder}/{name}" for name in artifacts.MANIFESTS]

    def to_publish(self, w: Wildcards) -> str:
        """What is published: tables over all seeds, everything else of the first one."""
        suite, name = self.files.config.suite, w.artifact
        if problem := artifacts.unknown_name(name):
            sys.exit(problem)
        suites = self.files.replicas(suite)
        table = name.startswith("table") and name.endswith((".csv", ".tex"))
        folder = f"{suite}/seeds" if table and len(suites) > 1 else suites[0]
        return f"{self.files.root}/{folder}/{name}"

    def claimed(self, w: Wildcards) -> list[str]:
        """The tables and figures that claims are tested on; figures where the suite has them."""
        figures = paper.FIGURES if self.files.has_figures(w.suite) else []
        names = [f"table{n}" for n in paper.TABLES] + [f"figure{n}" for n in figures]
        return [f"{self.files.root}/{w.suite}/{name}.csv" for name in names]

    def claimed_threats(self, w: Wildcards) -> list[str]:
        """The tables about attacks and handling that claims are tested on."""
        names = artifacts.CLAIMED[artifacts.THREATS]
        return [f"{self.files.root}/{w.suite}/{name}.csv" for name in names]

    def claimed_siblings(self, w: Wildcards) -> list[str]:
        """The sibling papers' tables and figures that claims are tested on."""
        names = artifacts.CLAIMED[artifacts.SIBLINGS]
        return [f"{self.files.root}/{w.suite}/{name}.csv" for name in names]

    def to_release(self, w: Wildcards) -> list[str]:
        """What `release` copies into the bundle: bases, heads and the formats' updates."""
        if self.files.released:
            sys.exit("release copies what was trained here. Set checkpoints: train")
        suite = self.files.config.suite
        settings = self.files.suites(suite)
        formats = [name for name in self.files.config.bundle if name in settings.release_formats]
        models = [
            f"{self.files.root}/{suite}/{backbone}/{name}"
            for backbone in settings.backbones
            for name in (
                *("tower.safetensors", "base.json"),
                *(f"heads/{t}.{kind}" for t in settings.tasks for kind in ("safetensors", "json")),
            )
        ]
        updates = [
            str(Path(record).parent / name)
            for release_format in formats
            for record in self.files.records(suite, release_format)
            for name in UPDATE_FILES[release_format]
        ]
        return models + updates

    def splits_to_release(self, w: Wildcards) -> list[str]:
        """The split indices of all tasks of the configured suite, at each of its resolutions."""
        return self._splits(self.files.config.suite)

    def tables_to_release(self, w: Wildcards) -> list[str]:
        """The configured suite's tables that go with its checkpoints."""
        return [
            f"{self.files.root}/{self.files.config.suite}/{name}"
            for name in (*REFERENCE_TABLES, "manifest.json")
        ]

    def splits(self, w: Wildcards) -> list[str]:
        """The split indices of all tasks of a suite, at each of its resolutions."""
        return self._splits(w.suite)

    def released_splits(self, w: Wildcards) -> list[str]:
        """The released counterparts of :meth:`splits`."""
        places = (Path(path).parts[-3:-1] for path in self._splits(w.suite))
        return [
            self.files.from_bundle(f"{self.files.root}/{w.suite}/splits/{task}-{resolution}.json")
            for task, resolution in places
        ]

    def tables_to_compare(self, w: Wildcards) -> list[str]:
        """A suite's tables that are compared with :meth:`reference_tables`."""
        return [f"{self.files.root}/{w.suite}/{name}" for name in REFERENCE_TABLES]

    def reference_tables(self, w: Wildcards) -> list[str]:
        """The tables that came with the released checkpoints."""
        folder = f"{self.files.root}/{w.suite}/reference"
        return [self.files.from_bundle(f"{folder}/{name}") for name in REFERENCE_TABLES]

    def _splits(self, suite: str) -> list[str]:
        settings = self.files.suites(suite)
        resolutions = sorted({b.resolution for b in settings.backbones.values()})
        return [
            f"{self.files.root}/{suite}/data/{task}/{resolution}/splits.json"
            for task in settings.tasks
            for resolution in resolutions
        ]
