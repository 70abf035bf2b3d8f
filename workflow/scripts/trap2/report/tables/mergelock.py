"""Merge-Lock's Tables 1 to 4: pairs of updates, one of them protected, merged with equal weight.

A cell is the mean of the merged model's accuracies on the two tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

from trap2.report.names import task_title
from trap2.report.shapes import Rows, TextRow
from trap2.report.tables import siblings
from trap2.report.tables.columns import UPDATE
from trap2.report.tables.rows import facts_of, group
from trap2.updates.sibling_records import SiblingRecord

BY = ("backbone", "merge_method", "protected_task", "protection", "attack")
"""What a row is, in ours and in the published tables."""


def columns(tasks: Sequence[str]) -> list[str]:
    """The tables' columns; a task's is that of the other, unprotected update."""
    facts = [*UPDATE[:-1], "merge_method", "coefficient", "protected_task"]
    return [*facts, "protection", "attack", *tasks, "average", "delta"]


def pair_rows(records: Iterable[SiblingRecord], method: str) -> list[TextRow]:
    """A row a protected task, protection and attack, in the tasks' order.

    The average is over the other tasks, and empty where one was not merged.  ``delta`` is its
    difference to the unprotected row, or of an attack's row to that without attack.

    Args:
        records: of one backbone.
        method: as cells call it.
    """
    known = list(records)
    order = known[0]["tasks"] if known else []
    by_task = group(known, itemgetter("protected_task"))
    rows = []
    for task in order:
        members = {record["protection"]: record for record in by_task.get(task, [])}
        normal: float | None = None
        for protection in siblings.protections_in_order(members.values()):
            found = _task_rows(members[protection], method, normal)
            if protection == "unprotected" and found:
                normal = _number(found[0]["average"])
            rows += found
    return rows


def _task_rows(record: SiblingRecord, method: str, normal: float | None) -> list[TextRow]:
    protected = record["protected_task"]
    by_attack = group(siblings.cells_of(record, "pair", method), itemgetter("attack"))
    partners = [task for task in record["tasks"] if task != protected]
    plain: float | None = None
    rows = []
    for attack in siblings.attacks_in_order(by_attack):
        cells = by_attack[attack]
        values = {
            str(cell["partner"]): siblings.pair_accuracy(cell["points"][0], cell, protected)
            for cell in cells
        }
        # As it is printed, so that the differences are those of the printed averages.
        average = _number(siblings.text_of(siblings.whole_mean(values, partners)))
        reference = normal if attack == siblings.NONE else plain
        if attack == siblings.NONE:
            plain = average
        coefficient = cells[0]["points"][0]["coefficient"]
        rows.append(
            facts_of(record)
            | {"merge_method": method, "protected_task": protected, "attack": attack}
            | {"coefficient": "" if coefficient is None else f"{coefficient:g}"}
            | {task: siblings.text_of(values.get(task)) for task in record["tasks"]}
            | {"average": siblings.text_of(average)}
            | {"delta": siblings.text_of(_difference(average, reference))}
        )
    return rows


def _difference(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference


def _number(text: str) -> float | None:
    return float(text) if text else None


def published_pairs(numbers: Rows) -> list[TextRow]:
    """A published table, one number a row, as rows of ours: its tasks by their titles.

    What it calls alignment is the attack that :data:`trap2.report.tables.siblings.ALIGNMENTS` says.
    """
    names = {"Average": "average", "Delta": "delta"}
    tasks = [*dict.fromkeys(entry["protected_task"] for entry in numbers)]
    rows: dict[tuple[str, ...], TextRow] = {}
    for entry in numbers:
        facts: TextRow = {"suite": "published", "release": entry["release"]}
        facts |= {key: entry[key] for key in BY}
        if entry["attack"] == "alignment":
            facts["attack"] = siblings.ALIGNMENTS[entry["protection"]]
        empty: Mapping[str, str] = dict.fromkeys((*tasks, "average", "delta"), "")
        row = rows.setdefault(tuple(facts[key] for key in BY), {**facts, **empty})
        other = entry["other_task"]
        row[names.get(other, task_title(other))] = entry["accuracy"]
    return list(rows.values())


def with_differences(rows: Sequence[TextRow]) -> list[TextRow]:
    """The rows with what their averages give for ``delta``, for claims: printed ones differ."""
    averages = {tuple(row[key] for key in BY): row["average"] for row in rows}

    def difference(row: TextRow) -> str:
        protection = "unprotected" if row["attack"] == siblings.NONE else row["protection"]
        reference = {**row, "protection": protection, "attack": siblings.NONE}
        other = averages.get(tuple(reference[key] for key in BY), "")
        return siblings.text_of(_difference(_number(row["average"]), _number(other)))

    return [{**row, "difference": difference(row)} for row in rows]
