"""One protected whole checkpoint in the protocols of the sibling papers: a file of cells.

Merge-Lock merges two models, θ0 + λ(τ1 + τ2) with the same λ (its Eq. 15), draws that over λ and
the way between both, θ0 + λτ1 + (1 − λ)τ2 (Eq. 16); MergeGuard merges all.  Cells of an earlier run
stay where they are still valid, as in :mod:`trap2.attacks.staging`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from trap2.attacks.catalogue import ATTACKS
from trap2.attacks.remade import (
    NONE,
    FixedStage,
    Remade,
    attention_distances,
    remade,
)
from trap2.attacks.running import DoesNotApply
from trap2.attacks.stage import are_finite
from trap2.evaluation.cells import cell_key, seal
from trap2.evaluation.merges import earlier_cells
from trap2.merging.catalogue import METHODS
from trap2.merging.merger import Merger
from trap2.merging.sample import Sample
from trap2.models.layers import block_names
from trap2.models.task import Task
from trap2.runtime import files
from trap2.runtime.catalogue import Options
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import Update, UpdateError, dense
from trap2.updates.records import CellRecord
from trap2.updates.sibling_records import (
    SiblingCell,
    SiblingPoint,
    SiblingRecord,
    SiblingScore,
)

Cell = tuple[str, str, str, str]
"""A protocol (``alone``, ``pair``, ``curve``, ``path``, ``all``), the partner or ``all``, a method
and what is done before merging."""

ALL, TA, TIES, WA, ADAMERGING = "all", "TA", "TIES", "WA", "AdaMerging"

ANCHORED = (NONE, "align-permutation", "align-scales", "align-params", "aga", "aga-paired")
"""Attacks that compare each model with W0 alone: what they make of it is the same beside any
other, so that it is made once."""

PATH = tuple(k / 10 for k in range(11))
"""The λ of a path."""

_BATCH = 16  # images a task and step of AdaMerging, the authors'


@dataclass(frozen=True)
class SiblingPlan:
    """How one update is merged.

    Attributes:
        cells: in order; those of one attack should stand together, and there those of one partner.
        pair: λ of pairs by Task Arithmetic.
        all: λ of the merges of all by Task Arithmetic.
        ties: λ of TIES, which averages.
        curve: the λ of a curve.
        images: unlabelled training images a task of AdaMerging.
        adamerging: which method of the catalogue it is, of ``pair`` and of ``all``.
        options: the configured options of methods and attacks that have some, by name.
        code: the digest of each method's and attack's code, by name.
    """

    cells: Sequence[Cell]
    pair: float
    all: float
    ties: float
    curve: Sequence[float]
    images: int
    adamerging: Mapping[str, str]
    options: Mapping[str, Options]
    code: Mapping[str, str]


@dataclass(frozen=True)
class Released:
    """What is merged, and what it is scored on.

    Attributes:
        model: holds W0; it does so again after every cell.
        tasks: by name, with the splits ``train`` and ``test``.
        updates: one a task: the protected one as published, the others unprotected.
        protected: its task.
        seed: the configuration's.
    """

    model: nn.Module
    tasks: Mapping[str, Task]
    updates: Mapping[str, Update]
    protected: str
    seed: int = 0


def merge_siblings(
    released: Released,
    plan: SiblingPlan,
    record: SiblingRecord,
    depends_on: Mapping[str, object],
    inputs: Mapping[str, object],
    *,
    output: Path,
    log: Callable[[str], None],
) -> None:
    """Make every cell of a plan that the file of an earlier run lacks, and write the file.

    The file is written after each cell, with the earlier run's cells that are not due yet.

    Args:
        released: what is merged.
        plan: the cells.
        record: what the file says besides them.
        depends_on: what all cells depend on: the base, its code and so on.
        inputs: what the cells of a task depend on, by task: its update, head and data.
        output: the file; cells in it whose key fits are taken over.
        log: receives a line a cell.

    A cell whose attack does not apply has no points, and says why.
    """
    maker = Protocols(released, plan)
    common = {**depends_on, "seed": released.seed, "device": record.get("device")}
    earlier = cast(dict[str, SiblingCell], earlier_cells(output))
    made: dict[str, SiblingCell] = {}
    for cell in plan.cells:
        name = "/".join(cell)
        tasks = maker.tasks_of(cell)
        key = cell_key(
            {**common, **maker.depends_on(cell), "inputs": {task: inputs[task] for task in tasks}}
        )
        found = earlier.get(name)
        if found is None or found.get("key") != key:
            started = time.monotonic()
            made_now = maker.make(cell)
            seconds = round(time.monotonic() - started, 2)
            found = _sealed({**made_now, "seconds": seconds, "key": key})
        log(f"{name}: {_result(found)}, {found['seconds']} s")
        made[name] = found
        files.write_json(output, summarised(record, earlier | made))
    files.write_json(output, summarised(record, made))


def summarised(record: SiblingRecord, cells: Mapping[str, SiblingCell]) -> SiblingRecord:
    """A record with its cells, and what those of ``alone`` say under keys of their own."""
    alone = [cell for cell in cells.values() if cell["protocol"] == "alone" and cell["points"]]
    task = record["protected_task"]
    return {
        **record,
        "standalone": {cell["attack"]: cell["points"][0]["test"][task] for cell in alone},
        "distances": [found for cell in alone for found in cell.get("distances", [])],
        "cells": dict(cells),
    }


def _sealed(cell: dict[str, object]) -> SiblingCell:
    return cast(SiblingCell, seal(cast(CellRecord, cell)))


def _result(cell: SiblingCell) -> str:
    if not cell["points"]:
        return f"does not apply: {cell.get('reason', '')}"
    last = cell["points"][-1]["test"].values()
    return f"mean accuracy {sum(each['accuracy'] for each in last) / len(last):.2f} %"


@dataclass
class Protocols:
    """Makes cells; what an attack remakes is kept for the cells of the same partner.

    Attributes:
        released: what is merged.
        plan: how.
    """

    released: Released
    plan: SiblingPlan
    _staged: dict[str, FixedStage] = field(default_factory=dict)
    _remade: dict[tuple[str, str], Remade] = field(default_factory=dict)

    def tasks_of(self, cell: Cell) -> list[str]:
        """The tasks whose updates enter a cell, the protected one first where there are two."""
        partner = cell[1]
        mine = self.released.protected
        return list(self.released.updates) if partner == ALL else [mine, partner]

    def depends_on(self, cell: Cell) -> dict[str, object]:
        """What a cell depends on that others do not, besides its inputs."""
        protocol, _, method, attack = cell
        names = [self._method(protocol, method), *([] if attack == NONE else [attack])]
        found: dict[str, object] = {
            "cell": list(cell),
            "protected": self.released.protected,
            "coefficients": self._coefficients(cell),
            "options": {name: dict(self._options(cell, name)) for name in names},
            "code": {name: self.plan.code[name] for name in names},
        }
        return found | ({"images": self.plan.images} if method == ADAMERGING else {})

    def make(self, cell: Cell) -> dict[str, object]:
        """Make a cell, without its time and key."""
        protocol, partner, method, attack = cell
        facts: dict[str, object] = {
            "protocol": protocol,
            "partner": None if partner == ALL else partner,
            "method": method,
            "attack": attack,
        }
        try:
            found = self._updates(cell)
            points = self._points(cell, found)
        except DoesNotApply as error:
            return {**facts, "points": [], "reason": str(error)}
        if protocol != "alone" or found.updates is None:
            return {**facts, "points": points}
        mine = found.updates[self.released.protected]
        distances = attention_distances(mine, self._stage(partner).heads, attack)
        return {**facts, "points": points, "distances": distances}

    def _points(self, cell: Cell, found: Remade) -> list[SiblingPoint]:
        protocol, partner, method, _ = cell
        if found.updates is None:
            assert found.merge is not None, "an attack ends with updates or with a merge"
            delta = found.merge.delta
            return [self._point(delta, self.plan.all, partner, scale=found.merge.scale)]
        updates = list(found.updates.values())
        coefficients = self._coefficients(cell)
        if protocol == "path":
            first, second = (found.updates[task] for task in self.tasks_of(cell))
            return [
                self._point(between(first, second, s), s, partner, scale=1.0) for s in coefficients
            ]
        if protocol == "alone":
            mine = found.updates[self.released.protected]
            delta = {layer: dense(mine[layer]) for layer in mine}
            return [self._point(delta, 1.0, partner, [self.released.protected])]
        if method == ADAMERGING:
            delta = self._adamerged(cell, updates)
            return [self._point(delta, None, partner)]
        delta = self._merged(cell, updates)
        return [self._point(delta, s, partner) for s in coefficients]

    def _merged(self, cell: Cell, updates: Sequence[Update]) -> dict[str, torch.Tensor]:
        """Σ τ, or what TIES makes of them, in the model's own precision."""
        # The mean is the sum at 1/N.
        name = TA if cell[2] == WA else cell[2]
        merger = Merger(updates, "Full", self._stage(cell[1]).dtype)
        try:
            return merger.merge(name, **self._options(cell, name))
        except UpdateError as error:
            raise DoesNotApply(str(error)) from error

    def _adamerged(self, cell: Cell, updates: Sequence[Update]) -> Mapping[str, torch.Tensor]:
        stage, name = self._stage(cell[1]), self._method(cell[0], cell[2])
        # The same images and draws whatever was done before.
        stage.begin(ADAMERGING, 0)
        inputs = [
            stage.sample(task, self.plan.images, labelled=False).inputs.split(_BATCH)
            for task in stage.updates
        ]
        sample = Sample(
            stage.model,
            stage.targets,
            inputs,
            [stage.scored[task].logits for task in stage.updates],
            block_names(stage.model),
            stage.torch_seed(name),
        )
        entry = METHODS[name]
        assert entry.with_data is not None, f"{name} needs no data"
        return entry.with_data(sample, updates, self._options(cell, name)).merged

    def _point(
        self,
        delta: Mapping[str, torch.Tensor],
        coefficient: float | None,
        partner: str,
        tasks: Sequence[str] | None = None,
        *,
        scale: float | None = None,
    ) -> SiblingPoint:
        stage = self._stage(partner)
        if scale is None:
            scale = 1.0 if coefficient is None else coefficient
        with AppliedUpdate(stage.model, delta) as applied:
            applied.set(scale)
            whole = are_finite(stage.model.state_dict().values())
            test = {
                task: _answer(stage.scored[task], stage.model, whole)
                for task in tasks or stage.updates
            }
        return {"coefficient": coefficient, "test": test}

    def _updates(self, cell: Cell) -> Remade:
        _, partner, _, attack = cell
        place = (ALL if attack in ANCHORED else partner, attack)
        if place not in self._remade:
            # One at a time: whole models in memory.
            self._remade.clear()
            options = self._options(cell, attack) if attack != NONE else {}
            self._remade[place] = remade(self._stage(place[0]), attack, options)
        found = self._remade[place]
        if found.updates is None:
            return found
        return Remade({task: found.updates[task] for task in self.tasks_of(cell)})

    def _stage(self, partner: str) -> FixedStage:
        if partner not in self._staged:
            self._staged.clear()
            given, plan = self.released, self.plan
            names = list(given.updates) if partner == ALL else [given.protected, partner]
            self._staged[partner] = FixedStage(
                given.model,
                {task: given.tasks[task] for task in names},
                {task: given.updates[task] for task in names},
                given.protected,
                plan.all if partner == ALL else plan.pair,
                seed=given.seed,
            )
        return self._staged[partner]

    def _coefficients(self, cell: Cell) -> list[float]:
        protocol, partner, method, _ = cell
        if method == ADAMERGING:
            return []
        if method == WA:
            return [1 / len(self.released.updates)]
        if method == TIES:
            return [self.plan.ties]
        fixed = self.plan.all if partner == ALL else self.plan.pair
        known = {"alone": [1.0], "curve": list(self.plan.curve), "path": list(PATH)}
        return known.get(protocol, [fixed])

    def _method(self, protocol: str, method: str) -> str:
        return self.plan.adamerging[protocol] if method == ADAMERGING else method

    def _options(self, cell: Cell, name: str) -> Options:
        entry = METHODS[name] if name in METHODS else ATTACKS[name]
        given: dict[str, Any] = dict(self.plan.options.get(name, {}))
        # UNMASK subtracts with the λ that was merged with.
        if "factor" in entry.options:
            given.setdefault("factor", self.plan.all if cell[1] == ALL else self.plan.pair)
        if "points" in entry.options:
            given.setdefault("points", 1)
        return entry.check_options(given)


def between(first: Update, second: Update, share: float) -> dict[str, torch.Tensor]:
    """The sum λτ1 + (1 − λ)τ2 (Merge-Lock, Eq. 16).

    Args:
        first: τ1, dense.
        second: τ2, of the same shapes; a layer that one lacks is zero there.
        share: λ, 0 … 1.
    """
    found = {}
    for layer in dict.fromkeys((*first, *second)):
        parts = [
            weight * dense(update[layer])
            for update, weight in ((first, share), (second, 1 - share))
            if layer in update
        ]
        found[layer] = torch.stack(parts).sum(0)
    return found


def _answer(task: Task, model: nn.Module, whole: bool) -> SiblingScore:
    """A score on the test split; a model that is NaN or infinite, or gives that, has none right."""
    score = task.score(model, "test")
    if whole and math.isfinite(score.loss):
        return {
            "correct": score.correct,
            "count": score.count,
            "accuracy": score.accuracy,
            "loss": score.loss,
        }
    return {"correct": 0, "count": score.count, "accuracy": 0.0, "loss": None}
