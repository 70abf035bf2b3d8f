"""The sibling papers' tables as LaTeX, in the papers' layouts, published numbers in brackets."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from trap2.report.names import backbone_title, protection_title, task_title
from trap2.report.shapes import Row, Rows
from trap2.report.tables import siblings
from trap2.report.tables.columns import NOTES
from trap2.report.tables.latex_cells import Cell, Line, Rule, sentence, to_latex
from trap2.report.tables.mergeguard import USES
from trap2.report.tables.rows import group, mean

_PAIRS = (
    "Accuracy (%) of pairs merged by {method}, {backbone}; mean over the two tasks. One task's "
    "whole checkpoint (left) is protected, the other (column) is not. Δ of a protection is to the "
    "unprotected pair, of an attack to the same pair without it. The last block has every "
    "protection and attack: the average over the partners by protected task."
)

_MERGES = {
    1: "Accuracy (%) of whole checkpoints of {backbone} used alone, before and after protection.",
    2: "Accuracy (%) on the protected task of all tasks' whole checkpoints of {backbone} merged: "
    "one is protected, the others are not.",
    3: "Protections alone and merged by TA, {backbone}: accuracy (%) on the protected task. The "
    "average of alone minus merged is what the paper calls the drop; unprotected minus merged "
    "leaves out what merging costs without protection.",
    4: "The stages of MergeGuard alone and together, {backbone}: accuracy (%) on the protected "
    "task, merged by TA.",
    5: "Attacks on a merge by TA with one update protected by MergeGuard, {backbone}: accuracy (%) "
    "on the protected task.",
}

_LEADING = {
    1: ("protection",),
    2: ("merge_method", "protection"),
    3: ("protection", "use"),
    4: ("protection", "use"),
    5: ("protection", "use", "attack"),
}
"""What is printed before the numbers of MergeGuard's tables."""

_ANCHOR = (
    "The anchor-guided attack, {backbone}: accuracy (%) of a protected whole checkpoint alone and "
    "of all tasks' merged by TA, on the protected task, on the others and on all; mean over the "
    "protected tasks."
)

_ANCHOR_NUMBERS = {
    "standalone": "Alone",
    "protected_accuracy": "Protected task",
    "others_accuracy": "Other tasks",
    "average": "All tasks",
}


def render_pairs(number: int, rows: Rows, source: str) -> str:
    """A table of Merge-Lock's paper.

    Args:
        number: the paper's number.
        rows: those of its CSV file.
        source: what the numbers are of, for the caption.
    """
    if rows and "not_applicable" in rows[0]:
        return sentence(rows[0]["not_applicable"])
    names = siblings.number_columns(rows[0])
    header: list[Line] = [[Cell("Protected"), Cell("Update"), *(Cell(_title(n)) for n in names)]]
    body: list[Line] = []
    for task, members in group(rows, itemgetter("protected_task")).items():
        body += [Rule()] if body else []
        shown = [row for row in members if _in_paper(row)]
        for position, row in enumerate(shown):
            cells = [Cell(_value(row, name, "NA" if name == task else "–")) for name in names]
            first = Cell(task_title(task) if position == 0 else "")
            body.append([first, Cell(_update_title(row)), *cells])
    body += [Rule(), [Cell("Average over the partners", span=len(names) + 2, align="l")], Rule()]
    tasks = [name for name in names if name not in {"average", "delta"}]
    for members in group(rows, itemgetter("protection", "attack")).values():
        body.append([Cell(), Cell(_update_title(members[0])), *_averages(members, tasks)])
    caption = _PAIRS.format(method=rows[0]["merge_method"], backbone=_backbone(rows))
    return _table(f"mergelock-{number}", rows, header, body, caption, source, "ll", len(names))


def _averages(rows: Rows, tasks: Sequence[str]) -> list[Cell]:
    at = {row["protected_task"]: row for row in rows}
    cells = [Cell(_decimal(at[task]["average"]) if task in at else "–") for task in tasks]
    for name in ("average", "delta"):
        values = [at[task][name] for task in tasks if task in at]
        whole = len(values) == len(tasks) and all(values)
        value = str(mean(map(float, values))) if whole else ""
        cells.append(Cell(_printed(name, value) if whole else "–"))
    return cells


def _in_paper(row: Row) -> bool:
    """Whether Merge-Lock's paper has the row."""
    if row["attack"] == siblings.NONE:
        return row["protection"] in {"unprotected", *siblings.ALIGNMENTS}
    return siblings.ALIGNMENTS.get(row["protection"]) == row["attack"]


def render_merges(number: int, rows: Rows, source: str) -> str:
    """A table of MergeGuard's paper; arguments as of :func:`render_pairs`."""
    if rows and "not_applicable" in rows[0]:
        return sentence(rows[0]["not_applicable"])
    names, leading = siblings.number_columns(rows[0]), _LEADING[number]
    titles = {"merge_method": "Merging", "protection": "Protection", "use": "Use"}
    titles |= {"attack": "Attack"}
    header: list[Line] = [[*(Cell(titles[n]) for n in leading), *(Cell(_title(n)) for n in names)]]
    body: list[Line] = []
    above: Row = {}
    for row in rows:
        if above and row[leading[0]] != above[leading[0]] and len(leading) > 1:
            body.append(Rule())
        first = True
        cells = []
        for name in leading:
            first = first and row[name] == above.get(name)
            cells.append(Cell("" if first else _fact(row, name)))
        body.append([*cells, *(Cell(_value(row, name)) for name in names)])
        above = row
    caption = _MERGES[number].format(backbone=_backbone(rows))
    label, left = f"mergeguard-{number}", "l" * len(leading)
    return _table(label, rows, header, body, caption, source, left, len(names))


def render_anchor(rows: Rows, source: str) -> str:
    """The anchor-guided attack's table; arguments as of :func:`render_pairs`."""
    if rows and "not_applicable" in rows[0]:
        return sentence(rows[0]["not_applicable"])
    titles = list(_ANCHOR_NUMBERS.values())
    header: list[Line] = [[Cell("Protection"), Cell("Attack"), *map(Cell, titles)]]
    body: list[Line] = []
    for protection, members in group(rows, itemgetter("protection")).items():
        for row in members:
            first = protection_title(protection) if row is members[0] else ""
            numbers = [Cell(_value(row, name)) for name in _ANCHOR_NUMBERS]
            body.append([Cell(first), Cell(_fact(row, "attack")), *numbers])
    caption = _ANCHOR.format(backbone=_backbone(rows))
    return _table("aga", rows, header, body, caption, source, "ll", len(titles))


def _table(
    label: str,
    rows: Rows,
    header: list[Line],
    body: list[Line],
    caption: str,
    source: str,
    leading: str,
    numbers: int,
) -> str:
    published = any(name.endswith(siblings.PUBLISHED) for name in rows[0])
    caption += " In brackets: published." * published + f" {source}."
    caption += "".join(f" Note: {note}" for note in sorted({r.get(NOTES, "") for r in rows} - {""}))
    columns = leading + "r" * numbers
    return to_latex(columns, header, body, caption=caption, label=f"tab:{label}")


def _backbone(rows: Rows) -> str:
    return backbone_title(rows[0]["backbone"])


def _title(name: str) -> str:
    return {"average": "Average", "delta": "Δ"}.get(name) or task_title(name)


def _fact(row: Row, name: str) -> str:
    value = row[name]
    if name == "attack":
        return siblings.ATTACKS.get(value, value) or "–"
    if name == "use":
        return USES[value]
    return protection_title(value) if name == "protection" else value


def _update_title(row: Row) -> str:
    title = protection_title(row["protection"])
    attack = _fact(row, "attack")
    return title if row["attack"] == siblings.NONE else f"{title}, {attack}"


def _value(row: Row, name: str, missing: str = "–") -> str:
    """A number with one decimal, the published one in brackets as it is printed."""
    beside = row.get(name + siblings.PUBLISHED, "")
    text = _printed(name, row[name]) if row[name] else missing
    return f"{text} ({_arrow(beside) if name == 'delta' else beside})" if beside else text


def _printed(name: str, text: str) -> str:
    return _arrow(_decimal(text)) if name == "delta" else _decimal(text)


def _arrow(text: str) -> str:
    """A difference as the paper prints it."""
    return f"↓{text[1:]}" if text.startswith("-") else f"↑{text}"


def _decimal(text: str) -> str:
    return f"{float(text):.1f}" if text else "–"
