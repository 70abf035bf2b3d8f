"""What the tables of the sibling papers share: merges of a record, order and names of attacks.

Accuracies are in percent on the test split.  Where a row's numbers are published, they stand beside
ours in columns that end in :data:`PUBLISHED`, as they are printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trap2.report.names import task_title
from trap2.report.shapes import Row, Rows, TextRow
from trap2.report.tables.columns import NOTES, UPDATE
from trap2.report.tables.rows import mean, percent
from trap2.updates.sibling_records import SiblingCell, SiblingPoint, SiblingRecord

PUBLISHED = "_published"
"""What a column of published numbers has behind its name."""

NONE = "none"
"""The attack of whoever merges updates as they were released."""

ATTACKS = {
    NONE: "",
    "align-rotation": "rotated back",
    "align-params": "order and scales undone",
    "aga": "anchor-guided attack",
    "aga-paired": "anchor-guided attack, paired",
    "unmask": "UNMASK",
    "graderase": "GRADERASE",
}
"""The attacks in the tables' order, as they call them."""

ALIGNMENTS = {"params": "align-params", "mergelock": "align-rotation"}
"""What Merge-Lock's tables call a protection's alignment."""

PROTECTIONS = ("unprotected", "params", "mergelock", "mergeguard")
"""The rows of the sibling papers, which stand first; all others are ours."""


def attacks_in_order(names: Iterable[str]) -> list[str]:
    """Attacks, each once, in the order of :data:`ATTACKS`, others behind by name."""
    order = list(ATTACKS)
    found = sorted(set(names))
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def protections_in_order(records: Iterable[SiblingRecord]) -> list[str]:
    """The records' protections, each once: the papers' first, then in the records' order."""
    found = dict.fromkeys(record["protection"] for record in records)
    return [name for name in PROTECTIONS if name in found] + [
        name for name in found if name not in PROTECTIONS
    ]


def cells_of(record: SiblingRecord, protocol: str, method: str) -> list[SiblingCell]:
    """A record's merges by one protocol and method that have points."""
    return [
        cell
        for cell in record["cells"].values()
        if (cell["protocol"], cell["method"]) == (protocol, method) and cell["points"]
    ]


def accuracy(point: SiblingPoint, task: str) -> float:
    """A merge's accuracy on a task; 0 of a model that gives NaN."""
    return point["test"][task]["accuracy"]


def pair_accuracy(point: SiblingPoint, cell: SiblingCell, protected: str) -> float:
    """A pairwise merge's mean accuracy on its two tasks."""
    assert cell["partner"] is not None
    return mean([accuracy(point, protected), accuracy(point, cell["partner"])])


def whole_mean(values: Mapping[str, float], wanted: Iterable[str]) -> float | None:
    """The mean of some values, None where one of them is missing."""
    names = list(wanted)
    if not names or any(name not in values for name in names):
        return None
    return mean(values[name] for name in names)


def text_of(value: float | None) -> str:
    """A number for a CSV file; empty where there is none."""
    return "" if value is None else percent(value)


FACTS = frozenset(
    (
        *(*UPDATE, "merge_method", "coefficient", "protected_task", "use", "attack", NOTES),
        "difference",
    )
)
"""The columns of these tables that say what a row is of."""


def number_columns(row: Row) -> list[str]:
    """The columns that hold numbers of this project, tasks first."""
    return [name for name in row if name not in FACTS and not name.endswith(PUBLISHED)]


def with_published(
    rows: Sequence[TextRow], columns: Sequence[str], published: Rows, by: Sequence[str]
) -> list[str]:
    """Put the published numbers beside ours, where the suite has the papers' tasks and no others.

    Args:
        rows: of a table; changed in place.
        columns: the table's.
        published: the published table as rows of the same columns, its tasks by their titles.
        by: the columns in which a published row agrees with ours.

    Returns:
        The columns; where something is published, each number's is followed by its published one.
    """
    if not rows or not published:
        return list(columns)
    numbers = number_columns(rows[0])
    summaries = {"average", "delta"}
    tasks = {task_title(name) for name in numbers if name not in summaries}
    if tasks != {name for name in number_columns(published[0]) if name not in summaries}:
        return list(columns)

    def place(row: Row) -> tuple[str, ...]:
        return tuple(_titled(key, row[key]) for key in by)

    known = {place(row): row for row in published}
    if not any(place(row) in known for row in rows):
        return list(columns)
    for row in rows:
        beside = known.get(place(row), {})
        for name in numbers:
            title = name if name in summaries else task_title(name)
            row[name + PUBLISHED] = beside.get(title, "")
    return [
        beside
        for name in columns
        for beside in ((name, name + PUBLISHED) if name in numbers else (name,))
    ]


def _titled(key: str, value: str) -> str:
    return task_title(value) if key == "protected_task" else value


def numbers_of(rows: Iterable[Row]) -> list[TextRow]:
    """A table with one number a row: ``number`` is ``task``, ``average`` or ``delta``.

    Published numbers are left out, and so are empty cells.  Claims are tested on this form, ours
    and the published tables' alike.
    """
    return [
        {key: value for key, value in row.items() if key in FACTS}
        | {"task": name, "accuracy": row[name]}
        | {"number": name if name in {"average", "delta"} else "task"}
        for row in rows
        for name in number_columns(row)
        if row[name]
    ]
