"""What a run from released checkpoints gives, beside the tables that came with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trap2.report.shapes import Rows

SHOWN = 20


@dataclass(frozen=True)
class Difference:
    """One value that is not as released: its row, its column and both values."""

    row: int
    column: str
    reference: str
    ours: str


@dataclass(frozen=True)
class Comparison:
    """One table: how many values were compared and which differ."""

    values: int
    differences: list[Difference]


def differences(reference: Rows, ours: Rows) -> Comparison:
    """Compare two tables value by value, as text; a row or column too few counts as empty."""
    columns = list(dict.fromkeys(key for row in [*reference, *ours] for key in row))
    found = []
    for i in range(max(len(reference), len(ours))):
        expected, got = (rows[i] if i < len(rows) else {} for rows in (reference, ours))
        found += [
            Difference(i + 1, column, expected.get(column, ""), got.get(column, ""))
            for column in columns
            if expected.get(column, "") != got.get(column, "")
        ]
    return Comparison(max(len(reference), len(ours)) * len(columns), found)


def page(
    suite: str, made: str, tables: Mapping[str, Comparison], splits: Mapping[str, bool]
) -> str:
    """The comparison as a page of Markdown.

    Args:
        suite: the suite's name.
        made: of which seed and revision of the code the checkpoints are.
        tables: by file name.
        splits: by task and resolution, whether the split indices are the released ones.
    """
    total = sum(len(table.differences) for table in tables.values())
    other = sorted(name for name, same in splits.items() if not same)
    lines = [
        f"# The {suite} suite from its released checkpoints",
        "",
        f"Checkpoints: {made}.",
        f"Differences from the released tables: **{total}**.",
        f"Split indices: {len(splits) - len(other)} of {len(splits)} tasks as released"
        + (f"; not {', '.join(other)}." if other else "."),
        "",
        "| table | values | differences |",
        "|---|---|---|",
        *(f"| {name} | {t.values} | {len(t.differences)} |" for name, t in tables.items()),
    ]
    for name, table in tables.items():
        if table.differences:
            lines += [
                "",
                f"## {name}",
                "",
                "| row | column | released | here |",
                "|---|---|---|---|",
            ]
            shown = table.differences[:SHOWN]
            lines += [f"| {d.row} | {d.column} | {d.reference} | {d.ours} |" for d in shown]
            if len(table.differences) > SHOWN:
                lines.append(f"\n{len(table.differences) - SHOWN} more differences are not shown.")
    if total:
        lines += [
            "",
            "Small differences of an accuracy (a few images) come from another processor or other "
            "versions of the libraries; docs/released.md says how to tell.",
        ]
    return "\n".join(lines) + "\n"
