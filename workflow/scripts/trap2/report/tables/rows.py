"""Rows of the tables: the paper's layouts, accuracy in percent with three decimals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from trap2.report.shapes import TextRow
from trap2.report.tables.columns import CELL, UPDATE
from trap2.updates.records import (
    AttackRecord,
    CellRecord,
    CurvatureRecord,
    FoundCell,
    HandlingRecord,
    MergeRecord,
    PairsRecord,
    UpdateRecord,
)
from trap2.updates.sibling_records import SiblingRecord

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def percent(value: float) -> str:
    """An accuracy in percent as the paper prints it."""
    return f"{value:.3f}"


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean, summed in order."""
    numbers = list(values)
    return sum(numbers) / len(numbers)


def group(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by their key, groups and items in order of first appearance."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


Placed = (
    UpdateRecord
    | MergeRecord
    | PairsRecord
    | CurvatureRecord
    | AttackRecord
    | HandlingRecord
    | SiblingRecord
)


def facts_of(record: Placed) -> TextRow:
    """What a row says of the record that it comes from; the column ``release`` is its format."""
    return {
        "suite": record["suite"],
        "backbone": record["backbone"],
        "release": record["release_format"],
        "protection": record["protection"],
    }


def _facts(record: UpdateRecord | MergeRecord) -> tuple[str, ...]:
    return tuple(facts_of(record).values())


def standalone_rows(records: Iterable[UpdateRecord], tasks: Sequence[str]) -> list[TextRow]:
    """Tables 1 and 3: test accuracy of each update used alone, a row a protection.

    Args:
        records: update records (``update.json``), and zero-shot ones (``heads/{task}.json``) with
            the release format beside which they stand.
        tasks: the columns.
    """
    rows = []
    for members in group(records, _facts).values():
        accuracy = {record["task"]: record["test"]["accuracy"] for record in members}
        row = facts_of(members[0])
        if row["protection"] == "unprotected":
            row["protection"] = "fine-tuned"
        rows.append(
            row
            | {task: percent(accuracy[task]) for task in tasks}
            | {"average": percent(mean(accuracy[task] for task in tasks))}
        )
    return rows


def merge_average(cell: FoundCell) -> float:
    """Mean over the tasks of a merged model's test accuracy, in percent."""
    return mean(score["accuracy"] for score in cell["test"].values())


def merging_rows(merges: Iterable[MergeRecord], columns: Sequence[str]) -> list[TextRow]:
    """Tables 2, 4 and 5: accuracy after merging, averaged over tasks and protected tasks.

    Args:
        merges: merge files, each one set of updates with its cells.
        columns: the cells' names, ``{method}-{space}`` or a method with its sampling.
    """
    rows = []
    for members in group(merges, _facts).values():
        row = facts_of(members[0])
        for column in columns:
            averages = [merge_average(merge["cells"][column]) for merge in members]
            row[column] = percent(mean(averages))
        rows.append(row)
    return rows


CELL_COLUMNS = [*UPDATE, "protected_task", *CELL, "options", "coefficient", "seed"]


def cell_rows(merges: Iterable[MergeRecord], tasks: Sequence[str]) -> list[TextRow]:
    """One row a merge, with its coefficient and its test accuracy on every task."""
    rows = []
    for merge in merges:
        for cell in merge["cells"].values():
            options = cell["options"]
            rows.append(
                facts_of(merge)
                | {"protected_task": merge["protected_task"]}
                | _cell_facts(cell)
                | {"options": ";".join(f"{key}={options[key]}" for key in sorted(options))}
                | {"coefficient": f"{cell['coefficient']:g}", "seed": str(merge["seed"])}
                | {task: percent(cell["test"][task]["accuracy"]) for task in tasks}
                | {"average": percent(merge_average(cell))}
            )
    return rows


def _cell_facts(cell: CellRecord) -> TextRow:
    return {"merge_method": cell["merge_method"], "merge_space": cell["merge_space"]}


COMPLETE_COLUMNS = [*UPDATE[:-1], *CELL, UPDATE[-1]]


def complete_rows(
    merges: Iterable[MergeRecord], tasks: Sequence[str], cells: Sequence[str]
) -> list[TextRow]:
    """Tables 7 to 11: accuracy after merging, one column a protected task.

    Nothing is protected in the unprotected merge: its row has an average alone.

    Args:
        merges: merge files of one release format; their cells name ``merge_method`` and
            ``merge_space``.
        tasks: the columns.
        cells: the merges' cells, in the rows' order.
    """
    rows = []
    for members in group(merges, lambda merge: _facts(merge)[:-1]).values():
        facts = facts_of(members[0])
        del facts["protection"]
        for column in cells:
            cell = facts | _cell_facts(members[0]["cells"][column])
            for protection, trials in group(members, lambda merge: merge["protection"]).items():
                averages = {m["protected_task"]: merge_average(m["cells"][column]) for m in trials}
                row = cell | {"protection": protection}
                row |= {task: percent(averages[task]) for task in tasks if task in averages}
                rows.append(row | {"average": percent(mean(averages.values()))})
    return rows


def explanation(suite: str, number: int | str, reason: str) -> tuple[list[str], list[TextRow]]:
    """Columns and the one row of a table that a suite cannot have."""
    row = {"suite": suite, "table": str(number), "not_applicable": reason}
    return list(row), [row]
