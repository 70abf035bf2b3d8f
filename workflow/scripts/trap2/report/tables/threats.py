"""Who merges a protected update anyway: every attack's merges, and what each attack comes to.

Accuracies and shares in percent on the test split; what is acquired and kept, and the verdicts, are
:mod:`trap2.attacks.measure`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from statistics import stdev

from trap2.attacks.attack import GROUPS, Attack
from trap2.attacks.measure import KEPT_ENOUGH, UNDEFINED, VERDICTS, Outcome, measure, verdict
from trap2.report.shapes import Point, TextRow
from trap2.report.tables.columns import STD, UPDATE
from trap2.report.tables.rows import facts_of, group, mean, percent
from trap2.updates.records import (
    AnswerRecord,
    AttackCell,
    AttackPoint,
    AttackRecord,
    MergeRecord,
    ZeroShotRecord,
)

REFERENCE = "TA-Full"
"""The cell of the unprotected merge that attacks are measured against."""

STRONGEST = {
    "worst-case": ("Best of all on test", "test"),
    "strongest": ("Best on validation", "val"),
}
"""Whoever tries all attacks and keeps the best for each task, with the split by which he chooses:
validation is what an attacker can do, test what bounds him."""

ATTACK = ("attack", "title", "group", "knowledge")
BUDGET = ("images", "steps")
SHARES = ("acquired", "kept")
ACCURACIES = ("protected_accuracy", "others_accuracy", "average")
BESIDE = ("unprotected_average", "zero_shot_average")
COST = ("labelled_images", "unlabelled_images", "forward_images", "backward_images")
COUNTS = tuple(f"tasks_{name}" for name in (*VERDICTS, UNDEFINED))

CELL_COLUMNS = [*UPDATE, "protected_task", *ATTACK, "attack_seed", "point", *BUDGET, *SHARES]
CELL_COLUMNS += ["verdict", *ACCURACIES, "unprotected_protected", "zero_shot_protected"]
CELL_COLUMNS += [*BESIDE, *COST]

COLUMNS = [*UPDATE, *ATTACK, "verdict", *(name + end for name in SHARES for end in ("", STD))]
COLUMNS += [*COUNTS, *ACCURACIES, *BESIDE, "seeds", *COST, "paper"]

PRICE_COLUMNS = [*UPDATE, *ATTACK, *BUDGET, *(c for c in COLUMNS[len(UPDATE) + len(ATTACK) : -1])]

Scores = Mapping[str, float]
"""Accuracy in percent by task."""


@dataclass(frozen=True)
class References:
    """What attacks are measured against.

    Attributes:
        merges: the unprotected merge's accuracies, by (backbone, release format, split).
        zero_shot: the base model's, by (backbone, split).
    """

    merges: dict[tuple[str, str, str], Scores] = field(default_factory=dict)
    zero_shot: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, merges: Iterable[MergeRecord], heads: Iterable[ZeroShotRecord]) -> References:
        """From the unprotected merges (``none.json``) and the heads' records."""
        found = cls()
        for merge in merges:
            cell = merge["cells"][REFERENCE]
            for split, scores in (("test", cell["test"]), ("val", cell["val"])):
                key = merge["backbone"], merge["release_format"], split
                found.merges[key] = _accuracies(scores)
        for head in heads:
            for split, score in (("test", head["test"]), ("val", head["val"])):
                of_split = found.zero_shot.setdefault((head["backbone"], split), {})
                of_split[head["task"]] = score["accuracy"]
        return found

    def outcome(self, record: AttackRecord, point: AttackPoint, split: str) -> Outcome:
        """What a point of an attack comes to, on the split ``test`` or ``val``."""
        scores = point["test"] if split == "test" else point["val"]
        backbone, tasks = record["backbone"], record["tasks"]
        base = self.zero_shot[backbone, split]
        return measure(
            _accuracies(scores),
            self.merges[backbone, record["release_format"], split],
            {task: base[task] for task in tasks},
            record["protected_task"],
        )


def _accuracies(scores: Mapping[str, AnswerRecord]) -> dict[str, float]:
    return {task: score["accuracy"] for task, score in scores.items()}


def cell_points(
    records: Iterable[AttackRecord], references: References, attacks: Mapping[str, Attack]
) -> list[Point]:
    """A row a merge: every point of every attack with every seed, on every protected task.

    Args:
        records: the attacks' records.
        references: what they are measured against.
        attacks: the catalogue, for titles.
    """
    return [
        _cell_point(record, references, attacks[cell["attack"]], cell, number)
        for record in records
        for cell in record["cells"].values()
        for number in range(len(cell["points"]))
    ]


def strongest_points(records: Iterable[AttackRecord], references: References) -> list[Point]:
    """A row a protected task and key of :data:`STRONGEST`: the best attack, by its last point.

    Best is the highest accuracy on the protected task of those that keep the others; where none
    does, what keeps most of them.  The cost is that of trying all.
    """
    return [
        _strongest_point(record, references, name)
        for record in records
        if record["cells"]
        for name in STRONGEST
    ]


def _strongest_point(record: AttackRecord, references: References, name: str) -> Point:
    title, split = STRONGEST[name]
    last = [cell["points"][-1] for cell in record["cells"].values()]

    def strength(point: AttackPoint) -> tuple[bool, float]:
        outcome = references.outcome(record, point, split)
        keeps = outcome.kept >= KEPT_ENOUGH
        return keeps, outcome.protected if keeps else outcome.kept

    row = _outcome_point(record, references, max(last, key=strength))
    row |= {"attack": name, "title": title, "group": "all", "knowledge": "all"}
    row |= {"attack_seed": 0, "point": 1, "images": None, "steps": None}
    costs = [_cost(point) for point in last]
    row |= {key: max(cost[key] for cost in costs) for key in COST[:2]}
    return row | {key: sum(cost[key] for cost in costs) for key in COST[2:]}


def _cell_point(
    record: AttackRecord, references: References, attack: Attack, cell: AttackCell, number: int
) -> Point:
    point = cell["points"][number]
    return (
        _outcome_point(record, references, point)
        | {"attack": attack.name, "title": attack.title, "group": attack.group}
        | {"knowledge": attack.knowledge, "attack_seed": cell["attack_seed"]}
        | {"point": number + 1}
        | {name: point["budget"].get(name) for name in BUDGET}
        | _cost(point)
    )


def _cost(point: AttackPoint) -> dict[str, int]:
    cost = point["cost"]
    values = cost["labelled"], cost["unlabelled"], cost["forward"], cost["backward"]
    return dict(zip(COST, values, strict=True))


def _outcome_point(record: AttackRecord, references: References, point: AttackPoint) -> Point:
    outcome = references.outcome(record, point, "test")
    backbone, task = record["backbone"], record["protected_task"]
    merge = references.merges[backbone, record["release_format"], "test"]
    base = references.zero_shot[backbone, "test"]
    return (
        {**facts_of(record), "protected_task": task}
        | {"acquired": outcome.acquired, "kept": outcome.kept, "verdict": outcome.verdict}
        | {"protected_accuracy": outcome.protected, "others_accuracy": outcome.others}
        | {"average": outcome.average}
        | {"unprotected_protected": merge[task], "zero_shot_protected": base[task]}
        | {"unprotected_average": mean(merge[each] for each in record["tasks"])}
        | {"zero_shot_average": mean(base[each] for each in record["tasks"])}
    )


def threat_rows(
    cells: Sequence[Point], strongest: Sequence[Point], attacks: Mapping[str, Attack]
) -> list[Point]:
    """A row an attack: what it comes to at its last point, on average over the protected tasks.

    Args:
        cells: :func:`cell_points`.
        strongest: :func:`strongest_points`; they stand first for each protection.
        attacks: the catalogue; rows stand in its order within :data:`GROUPS`.
    """
    order = sorted(attacks, key=lambda name: GROUPS.index(attacks[name].group))
    rows = []
    for members in group(cells, itemgetter(*UPDATE)).values():
        own = [row for row in strongest if all(row[key] == members[0][key] for key in UPDATE)]
        for chosen in group(own, itemgetter("attack")).values():
            rows.append(_summary(chosen) | {"paper": "ours"})
        by_attack = group(members, itemgetter("attack"))
        for name in order:
            if name in by_attack:
                rows.append(_summary(_last(by_attack[name])) | {"paper": attacks[name].paper})
    return rows


def price_rows(cells: Iterable[Point]) -> list[Point]:
    """A row a point of the curve of an attack with a budget, as :func:`threat_rows` sums up.

    Args:
        cells: :func:`cell_points`; attacks without a budget, or with one point, have no rows.
    """
    bought = [row for row in cells if any(row[name] is not None for name in BUDGET)]
    rows = []
    for members in group(bought, itemgetter(*UPDATE, "attack")).values():
        points = group(members, itemgetter(*BUDGET))
        if len(points) > 1:
            rows += [
                _summary(each) | dict(zip(BUDGET, budget, strict=True))
                for budget, each in points.items()
            ]
    return rows


def _last(cells: Iterable[Point]) -> list[Point]:
    """The last point of each seed on each task."""
    last = {(row["protected_task"], row["attack_seed"]): row for row in cells}
    return list(last.values())


def _summary(cells: Sequence[Point]) -> Point:
    """The mean over seeds of the means over tasks, deviations over seeds, verdicts over tasks."""
    row = {key: cells[0][key] for key in (*UPDATE, *ATTACK)}
    seeds = list(group(cells, itemgetter("attack_seed")).values())
    for name in SHARES:
        found = [value for each in seeds if (value := _mean(each, name)) is not None]
        row[name] = mean(found) if found else None
        row[name + STD] = stdev(found) if len(found) > 1 else None
    row["verdict"] = verdict(row["acquired"], row["kept"])
    verdicts = [
        verdict(_mean(each, "acquired"), mean(cell["kept"] for cell in each))
        for each in group(cells, itemgetter("protected_task")).values()
    ]
    row |= {f"tasks_{name}": verdicts.count(name) for name in (*VERDICTS, UNDEFINED)}
    row |= {name: mean(cell[name] for cell in cells) for name in (*ACCURACIES, *BESIDE)}
    row["seeds"] = len(seeds)
    return row | {name: round(mean(cell[name] for cell in cells)) for name in COST}


def _mean(cells: Iterable[Point], name: str) -> float | None:
    values = [cell[name] for cell in cells if cell[name] is not None]
    return mean(values) if values else None


def printed(rows: Iterable[Point]) -> list[TextRow]:
    """Rows for a CSV file: floats with three decimals, empty where there is no value."""
    return [{key: _text(value) for key, value in row.items()} for row in rows]


def _text(value: object) -> str:
    if value is None:
        return ""
    return percent(value) if isinstance(value, float) else str(value)
