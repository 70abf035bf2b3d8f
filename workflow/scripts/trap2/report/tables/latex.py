"""The paper's tables as LaTeX, from the rows of their CSV files.

A value below 95 % of its reference is pink in Tables 1 and 2, as in the paper: against the
fine-tuned update of the same task in Table 1, against the unprotected merge of the same column in
Table 2.  The other tables carry no bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import groupby

from trap2.report.names import backbone_title, protection_title, task_title
from trap2.report.shapes import Row, Rows
from trap2.report.tables.columns import NOTES, REFERENCES, numbers
from trap2.report.tables.correlations import STATISTICS
from trap2.report.tables.latex_cells import Cell, Line, Rule, sentence, to_latex
from trap2.report.tables.seeds import with_deviation

MARK_BELOW = Decimal("0.95")
"""Values below this share of their reference are marked (captions of Tables 1 and 2)."""


BARS = {1, 2}


_CAPTIONS = {
    1: "Standalone accuracy (%; ↑) of adapters. Bars are relative to Fine-Tuned, task by task; "
    "those below 95 % of it are pink.",
    2: "Accuracy (%) after merging, mean over tasks and protected tasks: one adapter is protected, "
    "the others are not. Bars are relative to the largest value of a column; values below 95 % of "
    "Unprotected are pink.",
    3: "Standalone accuracy (%; ↑) of whole checkpoints.",
    4: "Accuracy (%; ↓) after merging whole checkpoints, mean over tasks and protected tasks.",
    5: "Accuracy (%; ↓) after merging with data (R: random, C: class-stratified samples), mean "
    "over tasks and protected tasks.",
    6: "Correlation of the distance between two adapters, V_norm, with the loss increase at the "
    "midpoint between them.",
    11: "Accuracy (%; ↓) after merging with data, mean over tasks; each column protects its task "
    "alone. R: random, C: class-stratified samples.",
}


_COMPLETE = "Accuracy (%; ↓) after merging {what}, mean over tasks; each column protects its task "


_COMPLETE += "alone."


def is_below(value: str, reference: str) -> bool:
    """Whether a printed value is below 95 % of a printed reference, exactly."""
    return Decimal(value) < MARK_BELOW * Decimal(reference)


def zero_shot_averages(standalone: Rows) -> dict[str, str]:
    """The base models' average accuracy by backbone, as printed in Table 1 or 3."""
    zero_shot = (row for row in standalone if row.get("protection") == "zero-shot")
    return {row["backbone"]: row["average"] for row in zero_shot}


def render(
    number: int,
    kind: str,
    rows: Rows,
    *,
    zero_shot: Mapping[str, str] | None = None,
    source: str,
    ours: str = "",
) -> str:
    """One table as a LaTeX fragment.

    Args:
        number: the paper's number of the table.
        kind: its layout (:data:`trap2.suites.paper.TABLES`).
        rows: the rows of its CSV file.
        zero_shot: the base models' average accuracy by backbone, as printed (Tables 2 and 4).
        source: what the numbers are of, for the caption.
        ours: appended to TRAP²'s name in Tables 1 to 5, as the paper does.
    """
    if rows and "not_applicable" in rows[0]:
        return sentence(rows[0]["not_applicable"])
    if kind == "standalone":
        grid = _standalone(rows, number in BARS, ours)
    elif kind in {"merging", "data"}:
        grid = _merging(rows, number in BARS, zero_shot or {}, ours)
    elif kind == "correlation":
        grid = _correlation(rows)
    else:
        grid = _complete(rows)
    columns, header, body = grid
    what = "whole checkpoints" if rows and rows[0]["release"] == "full" else "adapters"
    caption = _CAPTIONS.get(number, _COMPLETE.format(what=what))
    notes = "".join(
        f" Note: {note}" for note in sorted({row.get(NOTES, "") for row in rows}) if note
    )
    caption = f"{caption} {source}.{notes}"
    return to_latex(columns, header, body, caption=caption, label=f"tab:table{number}")


Grid = tuple[str, list[Line], list[Line]]


def _title(column: str) -> str:
    return "Average" if column == "average" else task_title(column)


def _method_title(protection: str, ours: str, *, appended: bool) -> str:
    title = protection_title(protection)
    if protection == "trap2":
        return f"{title} {ours}".strip()
    return f"+ {title}" if appended else title


def _by_backbone(rows: Rows) -> list[list[Row]]:
    return [list(group) for _, group in groupby(rows, key=lambda row: row["backbone"])]


def _standalone(rows: Rows, bars: bool, ours: str) -> Grid:
    names = numbers(rows[0])
    header: list[Line] = [[Cell("Backbone"), Cell("Method"), *(Cell(_title(n)) for n in names)]]
    body: list[Line] = []
    for block in _by_backbone(rows):
        reference = next(row for row in block if row["protection"] == REFERENCES["standalone"])
        if body:
            body.append(Rule())
        for position, row in enumerate(block):
            first = backbone_title(row["backbone"]) if position == 0 else ""
            appended = row["protection"] not in {"zero-shot", "fine-tuned"}
            cells = [Cell(first), Cell(_method_title(row["protection"], ours, appended=appended))]
            for name in names:
                full = float(reference[name])
                cells.append(_value(row, name, reference[name], full if bars else None))
            body.append(cells)
    return "ll" + "r" * len(names), header, body


def _value(row: Row, name: str, reference: str, full: float | None) -> Cell:
    """A value with its bar; without one where ``full`` (a bar's whole length) is None."""
    text = with_deviation(row, name)
    if full is None:
        return Cell(text)
    bar = float(row[name]) / full if full else 0.0
    return Cell(text, bar=bar, marked=is_below(row[name], reference))


def _merging(rows: Rows, bars: bool, zero_shot: Mapping[str, str], ours: str) -> Grid:
    names = numbers(rows[0])
    header = _merging_header(names)
    body: list[Line] = []
    blocks = _by_backbone(rows)
    for block in blocks:
        backbone = block[0]["backbone"]
        if backbone in zero_shot or len(blocks) > 1:
            text = f"Backbone: {backbone_title(backbone)}"
            if backbone in zero_shot:
                text += f" (Zero-shot: {zero_shot[backbone]})"
            body += [Rule()] if body else []
            body += [[Cell(text, span=len(names) + 1, align="l")], Rule()]
        reference = next(row for row in block if row["protection"] == REFERENCES["merging"])
        for row in block:
            title = _method_title(row["protection"], ours, appended=False)
            cells = [Cell(title, italic=row is reference)]
            for name in names:
                full = max(float(other[name]) for other in block)
                cells.append(_value(row, name, reference[name], full if bars else None))
            body.append(cells)
    return "l" + "r" * len(names), header, body


def _merging_header(names: Sequence[str]) -> list[Line]:
    """Methods over spaces; the spaces are left out where there is one alone, or none."""
    split = [name.rsplit("-", 1) if "-" in name else [name, "Full"] for name in names]
    several = len({space for _, space in split}) > 1
    what = "Merging Method / Merging Space" if several else "Merging Method"
    top = [Cell("Protection"), Cell(what, span=len(names))]
    methods = [(method, len(list(group))) for method, group in groupby(m for m, _ in split)]
    lines: list[Line] = [top, [Cell(), *(Cell(method, span=n) for method, n in methods)]]
    if several:
        lines.append([Cell(), *(Cell(space) for _, space in split)])
    return lines


def _complete(rows: Rows) -> Grid:
    names = numbers(rows[0])
    leading = [Cell("Merging"), Cell("Space"), Cell("Protection")]
    header: list[Line] = [[*leading, *(Cell(_title(name)) for name in names)]]
    body: list[Line] = []
    several = len(_by_backbone(rows)) > 1
    above: Row = {}
    for row in rows:
        if row["backbone"] != above.get("backbone"):
            body += [Rule()] if above else []
            if several:
                text = f"Backbone: {backbone_title(row['backbone'])}"
                body += [[Cell(text, span=len(names) + 3, align="l")], Rule()]
            above = {"backbone": row["backbone"]}
        method = row["merge_method"] != above.get("merge_method")
        space = method or row["merge_space"] != above.get("merge_space")
        if method and "merge_method" in above:
            body.append(Rule())
        cells = [
            Cell(row["merge_method"] if method else ""),
            Cell(row["merge_space"] if space else ""),
            Cell(protection_title(row["protection"]), italic=row["protection"] == "unprotected"),
        ]
        # Nothing is protected in the unprotected merge: one number holds for every column.
        if row["protection"] == "unprotected":
            cells.append(Cell(with_deviation(row, "average"), span=len(names)))
        else:
            cells += [Cell(with_deviation(row, name)) for name in names]
        body.append(cells)
        above = row
    return "lll" + "r" * len(names), header, body


def _correlation(rows: Rows) -> Grid:
    header: list[Line] = [[Cell(), *(Cell(STATISTICS[name]) for name in STATISTICS)]]
    body: list[Line] = []
    for kind, group in groupby(rows, key=lambda row: row["correlation"]):
        members = list(group)
        title = f"{kind.capitalize()} correlation (nontrivial pairs, n = {members[0]['n_pairs']})"
        body += [Rule()] if body else []
        body.append([Cell(title, span=len(STATISTICS) + 1, align="l", italic=True)])
        for row in members:
            body.append(
                [
                    Cell(STATISTICS[row["statistic"]]),
                    *(Cell(with_deviation(row, name)) for name in STATISTICS),
                ]
            )
    return "l" + "r" * len(STATISTICS), header, body
