"""Every name of a file of a run, and what each job, table and figure is made from.

A rule's input is a method of :class:`Files`, or what a method returns that wants more than a job's
wildcards.  Files trained here are below ``results/``, files made from released checkpoints below
``reproduced/``: neither makes the other stale.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from trap2.protection.catalogue import PROTECTIONS, post_hoc_protections, trained_protections
from trap2.runtime.files import FileError
from trap2.runtime.provenance import REPRODUCED
from trap2.suites import ablations, artifacts, bundle, paper
from trap2.suites.settings import Config, Suite
from trap2.suites.suite import (
    excluded,
    lambdas_of,
    merged_protections_of,
    partners_of,
    protections_of,
)

Suites = Callable[[str], Suite]
"""The checked settings of a suite, by its name; ``demo@2`` has the demo's."""

ROOTS = {"train": "results", "released": REPRODUCED}
"""The folder of a run's results, by where its checkpoints come from."""

UPDATE_FILES = {
    "lora": ["adapter_model.safetensors", "adapter_config.json", "update.json"],
    "full": ["model.safetensors", "update.json"],
}
"""The files of an update by release format, its record last."""

PUBLISHED = [f"config/published/table{number}.csv" for number in paper.TABLES]
"""The paper's own numbers."""


class Wildcards(Protocol):
    """What a job's wildcards offer; a job has those of its rule's output."""

    suite: str
    backbone: str
    release_format: str
    task: str
    protection: str
    protected: str
    merges: str
    number: str
    setting: str
    value: str
    artifact: str
    manifest: str
    file: str

    def get(self, name: str, default: str) -> str:
        """A wildcard, or a default where the rule has none of that name."""


FilesOf = Callable[[Wildcards], list[str]]


def update_patterns(protections: Iterable[str], release_format: str, below: str = "") -> list[str]:
    """Where updates with some protections are: the files of a rule's output, with wildcards."""
    folder = (
        f"<results>/{{suite}}/{{backbone}}/{{release_format,{release_format}}}/{{task}}/"
        f"{{protection,{'|'.join(protections) or '(?!)'}}}/{below}"
    )
    return [f"{folder.rstrip('/')}/{name}" for name in UPDATE_FILES[release_format]]


class Files:
    """The names of all files of a run.

    Args:
        suites: gives a suite's settings.
        config: the workflow's checked configuration.
        unchanging: marks a file whose modification time says nothing (Snakemake's ``ancient``).

    A file that cannot be made ends the run with the reason (``SystemExit``), before any job.
    """

    def __init__(
        self, suites: Suites, config: Config, unchanging: Callable[[str], str] = str
    ) -> None:
        self.suites = suites
        self.config = config
        self.released = config.checkpoints == "released"
        self.root = ROOTS[config.checkpoints]
        self.elsewhere = ROOTS["train" if self.released else "released"]
        self.logs = "reproduced/logs" if self.released else "logs"
        self._unchanging = unchanging

    # Of one backbone: data, model, heads, updates.

    def raw(self, w: Wildcards) -> list[str]:
        """The mark of a complete download; the demo needs none."""
        if self.suites(w.suite).data.source == "demo":
            return []
        return [f"{self.config.resources}/datasets/{w.task}/source.json"]

    def prepared(self, *splits: str) -> FilesOf:
        """The prepared files of a job's task at its backbone's resolution."""
        return lambda w: self._prepared(w, [w.task], splits)

    def all_prepared(self, *splits: str) -> FilesOf:
        """The prepared files of all tasks."""
        return lambda w: self._prepared(w, self.suites(w.suite).tasks, splits)

    def model(self, w: Wildcards) -> str:
        """The base's vision tower W0."""
        return self.stored(f"{self.root}/{w.suite}/{w.backbone}/tower.safetensors")

    def head(self, w: Wildcards) -> str:
        """The zero-shot head of a job's task."""
        return self._head(w, w.task)

    def heads(self, w: Wildcards) -> list[str]:
        """The zero-shot heads of all tasks of a backbone."""
        return [self._head(w, task) for task in self.suites(w.suite).tasks]

    def updates(self, protection: str | None = None) -> FilesOf:
        """The files of all tasks' updates with one protection (the job's if None)."""
        return lambda w: [
            file
            for task in self.suites(w.suite).tasks
            for file in self.update(w, task, protection or w.protection)
        ]

    def merged(self, w: Wildcards) -> list[str]:
        """What a job merges: the protected task's update and the others' unprotected ones."""
        return [
            file
            for task in self.suites(w.suite).tasks
            for file in self.update(w, task, w.protection if task == w.protected else "unprotected")
        ]

    def references(self, w: Wildcards) -> list[str]:
        """The records of all tasks' unprotected updates."""
        tasks = self.suites(w.suite).tasks
        return [self.update(w, task, "unprotected")[-1] for task in tasks]

    def update(self, w: Wildcards, task: str, protection: str) -> list[str]:
        """The files of one update; a job without a release format has adapters."""
        release_format = w.get("release_format", "lora")
        folder = f"{self.root}/{w.suite}/{w.backbone}/{release_format}/{task}/{protection}"
        return [self.stored(f"{folder}/{name}") for name in UPDATE_FILES[release_format]]

    def to_protect(self, w: Wildcards) -> list[str]:
        """The unprotected update's files; a backbone that it cannot act on ends the run."""
        reason = excluded(self.suites(w.suite), w.protection, w.release_format, w.backbone)
        if reason is not None:
            sys.exit(f"not applicable to {w.backbone}: {reason}")
        return self.update(w, w.task, "unprotected")

    def start(self, w: Wildcards) -> list[str]:
        """The unprotected update that a training starts from, where the protection wants one."""
        unprotected = self.to_protect(w)
        return unprotected if PROTECTIONS[w.protection].needs_unprotected else []

    def partners(self, w: Wildcards) -> list[str]:
        """The other tasks' unprotected updates, where a protection is trained against them."""
        others = partners_of(self.suites(w.suite), w.protection, w.task)
        return [file for task in others for file in self.update(w, task, "unprotected")]

    def lambda_candidates(self, w: Wildcards) -> list[str]:
        """A task's updates with a trained protection, one for each λ of its grid: their files."""
        return [
            file
            for text in lambdas_of(self.suites(w.suite), w.release_format, w.task, w.protection)
            for file in self.update(w, w.task, f"{w.protection}/lambda~{text}")
        ]

    def ablated(self, w: Wildcards) -> list[str]:
        """The adapters of a sweep, value by value and task by task: their files, flat."""
        suite = self.suites(w.suite)
        return [
            file
            for value in ablations.variants(suite, w.setting)
            for task in ablations.ablated_tasks(suite)
            for file in self._ablated(w, task, value)
        ]

    def stored(self, path: str) -> str:
        """Where a model, head, update or record is read from: made by this run, or released.

        A post-hoc protection trains nothing, so what the bundle has not of it is made here.
        """
        defended = Path(path).parent.name in post_hoc_protections()
        if not self.released or (defended and not bundle.holds(path)):
            return path
        # dvc gives files new times; what the bundle holds is in the rules' code digests instead.
        return self._unchanging(self.from_bundle(path))

    # Of a suite: updates and merges in all, tables, figures.

    def backbones(self, suite: str, release_format: str) -> list[str]:
        """The backbones that a suite trains, or finds released, in a release format."""
        if self.released and release_format not in bundle.release_formats(suite):
            return []
        return list(self.suites(suite).backbones_in(release_format))

    def cells(self, w: Wildcards) -> list[str]:
        """The merges behind cells.csv; formats that are made on request are left out."""
        return [
            file
            for release_format in self.default_formats(w.suite)
            for file in self._merges(w.suite, release_format)
        ]

    def default_formats(self, suite: str) -> list[str]:
        """The release formats of a run that names none; others are made when a table needs them."""
        formats = self.suites(suite).release_formats
        return [name for name in formats if not formats[name].on_request]

    def trained_records(self, w: Wildcards) -> list[str]:
        """The records of a suite's adapters with trained protections, which have a λ."""
        trained = trained_protections()
        names = [name for name in self.suites(w.suite).protections if name in trained]
        return self.records(w.suite, "lora", names) if names else []

    def table(self, w: Wildcards) -> dict[str, list[str]]:
        """The records behind a table, by kind; none where the suite has no such table."""
        if self.table_not_applicable(w):
            return {}
        shown = paper.TABLES[int(w.number)]
        known: dict[str, Callable[[], list[str]]] = {
            "updates": lambda: self.records(w.suite, shown.release_format),
            "zero_shot": lambda: [
                self._zero_shot(w.suite, backbone, task)
                for backbone in self.backbones(w.suite, shown.release_format)
                for task in self.suites(w.suite).tasks
            ],
            "merges": lambda: self._table_merges(w),
            "pairs": lambda: [self._pairs(w.suite)],
        }
        return {name: known[name]() for name in paper.KINDS[shown.kind].needs}

    def table_not_applicable(self, w: Wildcards) -> str:
        """Why a suite has no such table; an empty text where it has one."""
        number = int(w.number)
        reason = artifacts.table_not_applicable(w.suite, self.suites(w.suite), number)
        if reason is None and not self.backbones(w.suite, paper.TABLES[number].release_format):
            reason = artifacts.unreleased(w.suite, number)
        return reason or ""

    def standalone(self, folder: str = "") -> FilesOf:
        """The table of standalone accuracies that goes with Table 2 or 4; others need none."""

        def of(w: Wildcards) -> list[str]:
            kind = paper.TABLES[int(w.number)].kind
            if kind != "merging" or self.table_not_applicable(w):
                return []
            return [f"{self.root}/{w.suite}/{folder}table{int(w.number) - 1}.csv"]

        return of

    def published_standalone(self, w: Wildcards) -> list[str]:
        """The published counterpart of :meth:`standalone`."""
        number = int(w.number)
        return [PUBLISHED[number - 2]] if paper.TABLES[number].kind == "merging" else []

    def seed_tables(self, w: Wildcards) -> list[str]:
        """A table of every seed."""
        return [f"{self.root}/{suite}/table{w.number}.csv" for suite in self.replicas(w.suite)]

    def figure(self, w: Wildcards) -> dict[str, list[str]]:
        """The records behind a figure, by kind; zero-shot scores of the tasks that it shows."""
        shown, suite = paper.FIGURES[int(w.number)], self.suites(w.suite)
        folder, backbone = self.figures_folder(w.suite), self._figures_backbone(w.suite)
        tasks = [suite.figures.task] if "task" in shown.settings else list(suite.tasks)
        known = {
            "sweeps": [f"{folder}/scales/{name}.json" for name in ("unprotected", "trap2")],
            "pairs": [self._pairs(w.suite)],
            "merges": self._data_merges(w.suite, [backbone]),
            "zero_shot": [self._zero_shot(w.suite, backbone, task) for task in tasks],
        }
        return {kind: known[kind] for kind in shown.needs}

    def curvatures(self, w: Wildcards) -> list[str]:
        """The curvatures behind the theorems' tables."""
        folder = self.figures_folder(w.suite)
        return [f"{folder}/curvature/{protection}.json" for protection in ("unprotected", "trap2")]

    def ablation(self, w: Wildcards) -> str:
        """The scored merges of a sweep."""
        return f"{self.figures_folder(w.suite)}/ablations/{w.setting}.json"

    def figures_folder(self, suite: str) -> str:
        """The folder of adapters on the backbone of the figures."""
        return f"{self.root}/{suite}/{self._figures_backbone(suite)}/lora"

    def replicas(self, suite: str) -> list[str]:
        """A suite's folder for each seed; the configured seed's has the suite's own name."""
        own = self.config.seed
        seeds = self.config.seeds or (own,)
        return [suite if seed == own else f"{suite}@{seed}" for seed in seeds]

    def _prepared(self, w: Wildcards, tasks: Iterable[str], splits: Iterable[str]) -> list[str]:
        resolution = self.suites(w.suite).backbones[w.backbone].resolution
        names = [f"{split}.{kind}.npy" for split in splits for kind in ("images", "labels")]
        return [
            f"{self.root}/{w.suite}/data/{task}/{resolution}/{name}"
            for task in tasks
            for name in [*names, "manifest.json"]
        ]

    def _head(self, w: Wildcards, task: str) -> str:
        return self.stored(f"{self.root}/{w.suite}/{w.backbone}/heads/{task}.safetensors")

    def _ablated(self, w: Wildcards, task: str, value: str) -> list[str]:
        """A value's adapter; the suite's own training makes that of its own settings."""
        suite = self.suites(w.suite)
        variant = ablations.variants(suite, w.setting)[value]
        if ablations.is_own(suite, variant) and not self.released:
            for text in lambdas_of(suite, "lora", task):
                if float(text) == variant.lambda_:
                    return self.update(w, task, f"trap2/lambda~{text}")
        folder = f"{self.root}/{w.suite}/{w.backbone}/lora/{task}/ablation/{w.setting}~{value}"
        return [f"{folder}/{name}" for name in UPDATE_FILES["lora"]]

    def _table_merges(self, w: Wildcards) -> list[str]:
        number, table = int(w.number), paper.TABLES[int(w.number)]
        there = self.backbones(w.suite, table.release_format)
        shown = artifacts.table_backbones(self.suites(w.suite), number)
        backbones = [name for name in shown if name in there]
        if table.with_data:
            return self._data_merges(w.suite, backbones)
        return self._merges(w.suite, table.release_format, backbones)

    def _merges(
        self, suite: str, release_format: str, backbones: Iterable[str] | None = None
    ) -> list[str]:
        """All merges of a suite and release format, on all its backbones or on some."""
        if backbones is None:
            backbones = self.backbones(suite, release_format)
        return [
            f"{self.root}/{suite}/{backbone}/{release_format}/merges/{protection}/{protected}.json"
            for backbone in backbones
            for protection in merged_protections_of(self.suites(suite), release_format, backbone)
            for protected in self._protected_tasks(suite, protection)
        ]

    def _data_merges(self, suite: str, backbones: Iterable[str]) -> list[str]:
        """The merges with data: of unprotected updates, and with each task protected by TRAP²."""
        return [
            f"{self.root}/{suite}/{backbone}/lora/data_merges/{protection}/{protected}.json"
            for backbone in backbones
            for protection in ("unprotected", "trap2")
            for protected in self._protected_tasks(suite, protection)
        ]

    def _protected_tasks(self, suite: str, protection: str) -> list[str]:
        """The tasks protected in turn; nothing is protected in the unprotected merge."""
        return ["none"] if protection == "unprotected" else list(self.suites(suite).tasks)

    def records(
        self, suite: str, release_format: str, protections: Iterable[str] | None = None
    ) -> list[str]:
        """The records of a suite's and release format's updates, of all protections or of some."""
        settings = self.suites(suite)
        return [
            self.stored(
                f"{self.root}/{suite}/{backbone}/{release_format}/{task}/{protection}/update.json"
            )
            for backbone in self.backbones(suite, release_format)
            for protection in protections_of(settings, release_format, backbone)
            if protections is None or protection in protections
            for task in settings.tasks
        ]

    def _pairs(self, suite: str) -> str:
        """The pairs of a TRAP² and an unprotected adapter on the figures' backbone."""
        return f"{self.figures_folder(suite)}/pairs/trap2.json"

    def _zero_shot(self, suite: str, backbone: str, task: str) -> str:
        return self.stored(f"{self.root}/{suite}/{backbone}/heads/{task}.json")

    def _figures_backbone(self, suite: str) -> str:
        """The backbone of the figures; a suite without what they show ends the run."""
        reason = artifacts.figure_not_applicable(suite, self.suites(suite))
        if reason is not None:
            sys.exit(f"no figures: {reason}")
        return self.suites(suite).figures.backbone

    def has_figures(self, suite: str) -> bool:
        """Whether a suite has what the figures show."""
        return artifacts.figure_not_applicable(suite, self.suites(suite)) is None

    def from_bundle(self, path: str) -> str:
        """The released counterpart, in data/, of a file of the run."""
        try:
            return bundle.released_file(path)
        except FileError as error:
            sys.exit(str(error))
