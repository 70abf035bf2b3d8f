"""One protected update, attacked in every way: a file of cells.

What an earlier run left in the file stays where it is still valid, so that a new attack costs its
own cells and nothing else, and a killed job goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from trap2.attacks.attack import POINTS, Attack
from trap2.attacks.catalogue import ATTACKS
from trap2.attacks.meter import Meter
from trap2.attacks.running import DoesNotApply, merges
from trap2.attacks.stage import Stage, are_finite
from trap2.data.prepared import SplitName
from trap2.evaluation.cells import cell_key, seal
from trap2.evaluation.merges import earlier_cells
from trap2.models.scoring import Score, score_record
from trap2.runtime import files
from trap2.runtime.catalogue import CatalogueError
from trap2.updates.applied import AppliedUpdate
from trap2.updates.records import AnswerRecord, AttackCell, AttackPoint, AttackRecord, Options


@dataclass(frozen=True)
class AttackPlan:
    """How one protected update is attacked.

    Attributes:
        cells: (attack, attack seed) of every cell, in order.
        options: the configured options of attacks that have some.
        code: the digest of each attack's code.
        curve_seeds: so many attack seeds make every point of a curve, the others its last.
    """

    cells: Sequence[tuple[str, int]]
    options: Mapping[str, Options]
    code: Mapping[str, str]
    curve_seeds: int = 100

    def options_of(self, attack: str, attack_seed: int) -> Options:
        """The complete options of a cell.

        Raises:
            CatalogueError: an option is unknown or out of its range.
        """
        given = dict(self.options.get(attack, {}))
        if attack_seed >= self.curve_seeds and ATTACKS[attack].options.get("points") is POINTS:
            given["points"] = 1
        return ATTACKS[attack].check_options(given)


def cell_name(attack: str, attack_seed: int) -> str:
    """What a cell is called in its file."""
    return f"{attack}@{attack_seed}"


def attack_updates(
    stage: Stage,
    plan: AttackPlan,
    record: AttackRecord,
    depends_on: Mapping[str, object],
    *,
    output: Path,
    log: Callable[[str], None],
) -> None:
    """Make every cell of a plan that the file of an earlier run lacks, and write the file.

    The file is written after each cell, with the earlier run's cells that are not due yet.

    Args:
        stage: where the attacks happen.
        plan: the cells.
        record: what the file says besides its cells.
        depends_on: what else the cells depend on: digests of the inputs, of the code and so on.
        output: the file; cells in it whose key fits are taken over.
        log: receives a line a cell.

    An attack that does not apply has a cell without points, which says why.

    Raises:
        Trap2Error: an attack does something else than its entry says (:func:`attack_points`).
    """
    common = {
        **depends_on,
        "protected": stage.protected,
        "seed": stage.seed,
        "references": stage.references,
        "search": asdict(stage.search),
        "device": record.get("device"),
        "batch_size": {name: task.batch_size for name, task in stage.tasks.items()},
    }
    earlier = cast(dict[str, AttackCell], earlier_cells(output))
    made: dict[str, AttackCell] = {}
    for attack, attack_seed in plan.cells:
        name = cell_name(attack, attack_seed)
        options = plan.options_of(attack, attack_seed)
        own = {"attack": attack, "attack_seed": attack_seed, "options": dict(options)}
        key = cell_key({**common, **own, "attack_code": plan.code[attack]})
        cell = earlier.get(name)
        if cell is None or cell.get("key") != key:
            started = time.monotonic()
            found = _points_or_reason(stage, attack, attack_seed, options)
            seconds = round(time.monotonic() - started, 2)
            cell = _sealed({**own, **found, "seconds": seconds, "key": key})
        log(f"{name}: {_result(stage, cell)}, {cell['seconds']} s")
        made[name] = cell
        files.write_json(output, {**record, "cells": earlier | made})
    files.write_json(output, {**record, "cells": made})


def attack_points(
    stage: Stage, attack: str, attack_seed: int, options: Options
) -> list[AttackPoint]:
    """Run an attack, and score what it ends with on both splits.

    Args:
        stage: where it happens; holds W0 again afterwards.
        attack: its name.
        attack_seed: which repetition this is.
        options: complete.

    Returns:
        A point for each merge that it yields.  One that gives NaN or infinity is at 0 %.

    Raises:
        DoesNotApply: the attack says so, or its arithmetic fails.
        CatalogueError: it ends with nothing, or sees more than its entry says.
    """
    entry = ATTACKS[attack]
    stage.begin(attack, attack_seed)
    points: list[AttackPoint] = []
    for merge in merges(stage, entry, options):
        cost = stage.spent()
        _check_seen(entry, cost)
        with AppliedUpdate(stage.model, merge.delta) as applied:
            applied.set(merge.scale)
            val, test = _scores(stage, "val"), _scores(stage, "test")
        # Scoring is no part of the attack.
        stage.spent()
        points.append(
            {
                "budget": dict(merge.budget),
                "found": dict(merge.found),
                "val": val,
                "test": test,
                "cost": cost.record(),
            }
        )
    if not points:
        raise CatalogueError(f"attack {attack} ended with nothing; it must yield a merge")
    return points


def _points_or_reason(
    stage: Stage, attack: str, attack_seed: int, options: Options
) -> dict[str, object]:
    try:
        return {"points": attack_points(stage, attack, attack_seed, options)}
    except DoesNotApply as error:
        return {"points": [], "reason": str(error)}


def _check_seen(entry: Attack, cost: Meter) -> None:
    order = ("nothing", "sample", "labels")
    seen, allowed = cost.trained_on(), entry.needs if entry.needs in order else "nothing"
    if order.index(seen) > order.index(allowed):
        raise CatalogueError(
            f"attack {entry.name} looked at training images "
            f"{'with' if seen == 'labels' else 'without'} labels, and its entry says needs = "
            f"{entry.needs!r}; write needs={seen!r} there"
        )


def _scores(stage: Stage, split: SplitName) -> dict[str, AnswerRecord]:
    whole = are_finite(stage.model.state_dict().values())
    return {
        name: _record(task.score(stage.model, split), whole) for name, task in stage.scored.items()
    }


def _record(score: Score, whole: bool) -> AnswerRecord:
    """A score's record; a model that is NaN or infinite, or gives that, has nothing right."""
    if whole and math.isfinite(score.loss):
        return score_record(score)
    return {"correct": 0, "count": score.count, "accuracy": 0.0}


def _sealed(cell: Mapping[str, object]) -> AttackCell:
    return cast(AttackCell, seal(cast(Any, cell)))


def _result(stage: Stage, cell: AttackCell) -> str:
    if not cell["points"]:
        return f"does not apply: {cell['reason']}"
    test = cell["points"][-1]["test"]
    others = [test[task]["accuracy"] for task in stage.others]
    return (
        f"{stage.protected} {test[stage.protected]['accuracy']:.1f} %, "
        f"the others {sum(others) / len(others):.1f} %"
    )
