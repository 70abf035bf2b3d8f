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
from trap2.attacks.measure import (
    KEPT_ENOUGH,
    NOT_APPLICABLE,
    UNDEFINED,
    VERDICTS,
    Outcome,
    measure,
    verdict,
)
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

LEFT_OUT = "left-out"
"""The attack that leaves the protected update out; what it has on validation is what whoever tries
all attacks wants to keep."""

STRONGEST = {"worst-case": "Best of all on test", "strongest": "Best on validation"}
"""Whoever tries all attacks and keeps the best point for each task.  He chooses on validation,
where he knows what he would have without the protected update; test is what bounds him."""

ATTACK = ("attack", "title", "group", "knowledge")
BUDGET = ("images", "steps")
SHARES = ("acquired", "kept")
ACCURACIES = ("protected_accuracy", "others_accuracy", "average")
BESIDE = ("unprotected_average", "zero_shot_average")
COST = ("labelled_images", "unlabelled_images", "forward_images", "backward_images")
COUNTED = {
    name: f"tasks_{name.replace(' ', '_')}" for name in (*VERDICTS, UNDEFINED, NOT_APPLICABLE)
}

CELL_COLUMNS = [*UPDATE, "protected_task", *ATTACK, "attack_seed", "point", *BUDGET, *SHARES]
CELL_COLUMNS += ["verdict", *ACCURACIES, "unprotected_protected", "zero_shot_protected"]
CELL_COLUMNS += [*BESIDE, *COST, "reason"]

COLUMNS = [*UPDATE, *ATTACK, "verdict", *(name + end for name in SHARES for end in ("", STD))]
COLUMNS += [*COUNTED.values(), *ACCURACIES, *BESIDE, "seeds", *COST, "paper", "reason"]

PRICE_COLUMNS = [*UPDATE, *ATTACK, *BUDGET, *(c for c in COLUMNS[len(UPDATE) + len(ATTACK) : -2])]

Scores = Mapping[str, float]
"""Accuracy in percent by task."""


@dataclass(frozen=True)
class References:
    """What attacks are measured against.

    Attributes:
        merges: the unprotected merge's accuracies on test, by (backbone, release format).
        zero_shot: the base model's, by backbone.
    """

    merges: dict[tuple[str, str], Scores] = field(default_factory=dict)
    zero_shot: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, merges: Iterable[MergeRecord], heads: Iterable[ZeroShotRecord]) -> References:
        """From the unprotected merges (``none.json``) and the heads' records."""
        found = cls()
        for merge in merges:
            scores = merge["cells"][REFERENCE]["test"]
            found.merges[merge["backbone"], merge["release_format"]] = _accuracies(scores)
        for head in heads:
            of_backbone = found.zero_shot.setdefault(head["backbone"], {})
            of_backbone[head["task"]] = head["test"]["accuracy"]
        return found

    def outcome(self, record: AttackRecord, point: AttackPoint) -> Outcome:
        """What a point of an attack comes to."""
        base = self.zero_shot[record["backbone"]]
        return measure(
            _accuracies(point["test"]),
            self.merges[record["backbone"], record["release_format"]],
            {task: base[task] for task in record["tasks"]},
            record["protected_task"],
        )


def _accuracies(scores: Mapping[str, AnswerRecord]) -> dict[str, float]:
    return {task: score["accuracy"] for task, score in scores.items()}


def cell_points(
    records: Iterable[AttackRecord], references: References, attacks: Mapping[str, Attack]
) -> list[Point]:
    """A row a merge: every point of every attack with every seed, on every protected task.

    An attack that did not apply has one row, with the reason.

    Args:
        records: the attacks' records.
        references: what they are measured against.
        attacks: the catalogue, for titles.
    """
    return [
        _cell_point(record, references, attacks[cell["attack"]], cell, number)
        for record in records
        for cell in record["cells"].values()
        for number in range(max(1, len(cell["points"])))
    ]


def strongest_points(records: Iterable[AttackRecord], references: References) -> list[Point]:
    """A row a protected task and key of :data:`STRONGEST`: the best point of all attacks' curves.

    Best is the highest accuracy on the protected task of those that keep the others; where none
    does, what keeps most of them.  On validation the others are kept with 95 % of what they have
    in the merge of :data:`LEFT_OUT`, or, where that was not tried, in the best merge for them.  The
    cost is that of trying all.
    """
    return [
        _strongest_point(record, references, name)
        for record in records
        if _points(record)
        for name in STRONGEST
    ]


def _points(record: AttackRecord) -> list[AttackPoint]:
    return [point for cell in record["cells"].values() for point in cell["points"]]


def _strongest_point(record: AttackRecord, references: References, name: str) -> Point:
    points = _points(record)
    wanted = KEPT_ENOUGH / 100 * _others_without(record)

    def strength(point: AttackPoint) -> tuple[bool, float]:
        if name == "worst-case":
            outcome = references.outcome(record, point)
            keeps, protected, others = outcome.kept >= KEPT_ENOUGH, outcome.protected, outcome.kept
        else:
            protected = point["val"][record["protected_task"]]["accuracy"]
            others = _others(record, point)
            keeps = others >= wanted
        return keeps, protected if keeps else others

    row = _outcome_point(record, references, max(points, key=strength))
    row |= {"attack": name, "title": STRONGEST[name], "group": "all", "knowledge": "all"}
    row |= {"attack_seed": 0, "point": 1, "images": None, "steps": None, "reason": ""}
    costs = [_cost(point) for point in points]
    row |= {key: max(cost[key] for cost in costs) for key in COST[:2]}
    return row | {key: sum(cost[key] for cost in costs) for key in COST[2:]}


def _others(record: AttackRecord, point: AttackPoint) -> float:
    """The other tasks' mean validation accuracy."""
    scores = _accuracies(point["val"])
    return mean(scores[task] for task in record["tasks"] if task != record["protected_task"])


def _others_without(record: AttackRecord) -> float:
    """The same, as an attacker knows it who goes without the protected task."""
    left_out = [cell for cell in record["cells"].values() if cell["attack"] == LEFT_OUT]
    known = [point for cell in left_out for point in cell["points"]] or _points(record)
    return max(_others(record, point) for point in known)


def _cell_point(
    record: AttackRecord, references: References, attack: Attack, cell: AttackCell, number: int
) -> Point:
    facts: Point = {"attack": attack.name, "title": attack.title, "group": attack.group}
    facts |= {"knowledge": attack.knowledge, "attack_seed": cell["attack_seed"]}
    if not cell["points"]:
        row: Point = dict.fromkeys(CELL_COLUMNS)
        row |= {**facts_of(record), "protected_task": record["protected_task"]} | facts
        return row | {"verdict": NOT_APPLICABLE, "reason": cell["reason"]}
    point = cell["points"][number]
    return (
        _outcome_point(record, references, point)
        | facts
        | {"point": number + 1, "reason": ""}
        | {name: point["budget"].get(name) for name in BUDGET}
        | _cost(point)
    )


def _cost(point: AttackPoint) -> dict[str, int]:
    cost = point["cost"]
    values = cost["labelled"], cost["unlabelled"], cost["forward"], cost["backward"]
    return dict(zip(COST, values, strict=True))


def _outcome_point(record: AttackRecord, references: References, point: AttackPoint) -> Point:
    outcome = references.outcome(record, point)
    backbone, task = record["backbone"], record["protected_task"]
    merge = references.merges[backbone, record["release_format"]]
    base = references.zero_shot[backbone]
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
            rows.append(_summary(chosen) | {"paper": "ours", "reason": ""})
        by_attack = group(members, itemgetter("attack"))
        for name in order:
            if name in by_attack:
                last = _last(by_attack[name])
                why = "; ".join(dict.fromkeys(cell["reason"] for cell in last if cell["reason"]))
                rows.append(_summary(last) | {"paper": attacks[name].paper, "reason": why})
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
    """What cells of several tasks and seeds come to together, and verdicts over the tasks.

    Acquired is what was gained on all protected tasks of all that there is to gain on them, so that
    a task with little to gain does not outweigh the others; the other columns are means.
    Deviations are over the seeds.  An attack that did not apply counts in its tasks' column alone.
    """
    row = {key: cells[0][key] for key in (*UPDATE, *ATTACK)}
    applied = _applied(cells)
    seeds = list(group(applied, itemgetter("attack_seed")).values())
    row |= {"acquired": _acquired(applied), "kept": _kept(applied)}
    for name, of in (("acquired", _acquired), ("kept", _kept)):
        found = [value for each in seeds if (value := of(each)) is not None]
        row[name + STD] = stdev(found) if len(found) > 1 else None
    row["verdict"] = _verdict(applied)
    verdicts = [
        _verdict(_applied(each)) for each in group(cells, itemgetter("protected_task")).values()
    ]
    row |= {column: verdicts.count(name) for name, column in COUNTED.items()}
    row |= {name: _mean(applied, name) for name in (*ACCURACIES, *BESIDE)}
    row["seeds"] = len(seeds)
    costs = {name: _mean(applied, name) for name in COST}
    return row | {name: None if cost is None else round(cost) for name, cost in costs.items()}


def _applied(cells: Iterable[Point]) -> list[Point]:
    return [cell for cell in cells if cell["verdict"] != NOT_APPLICABLE]


def _acquired(cells: Iterable[Point]) -> float | None:
    """Σ gained / Σ to gain in percent, of cells in which there is something to acquire."""
    defined = [cell for cell in cells if cell["acquired"] is not None]
    base = sum(cell["zero_shot_protected"] for cell in defined)
    gained = sum(cell["protected_accuracy"] for cell in defined) - base
    to_gain = sum(cell["unprotected_protected"] for cell in defined) - base
    return 100 * gained / to_gain if defined else None


def _kept(cells: Iterable[Point]) -> float | None:
    return _mean(cells, "kept")


def _verdict(cells: Sequence[Point]) -> str:
    kept = _kept(cells)
    return NOT_APPLICABLE if kept is None else verdict(_acquired(cells), kept)


def _mean(cells: Iterable[Point], name: str) -> float | None:
    values = [cell[name] for cell in cells]
    return mean(values) if values else None


def printed(rows: Iterable[Point]) -> list[TextRow]:
    """Rows for a CSV file: floats with three decimals, empty where there is no value."""
    return [{key: _text(value) for key, value in row.items()} for row in rows]


def _text(value: object) -> str:
    if value is None:
        return ""
    return percent(value) if isinstance(value, float) else str(value)
