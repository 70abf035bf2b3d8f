"""The sibling papers' tables by name: rows and columns from records, LaTeX, published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trap2.report.shapes import Rows, TextRow
from trap2.report.tables import mergeguard, mergelock
from trap2.report.tables.rows import explanation
from trap2.report.tables.siblings import numbers_of, with_published
from trap2.report.tables.siblings_latex import render_anchor, render_merges, render_pairs
from trap2.suites.sibling_tables import MERGEGUARD, MERGELOCK, TABLES
from trap2.updates.sibling_records import SiblingRecord

Table = tuple[list[str], list[TextRow]]


def collect(name: str, records: Sequence[SiblingRecord], numbers: Rows) -> Table:
    """Columns and rows of a table; where nothing that it shows was merged, the reason.

    Args:
        name: of :data:`trap2.suites.sibling_tables.TABLES`.
        records: of the backbone that the table shows, the suite's order of protections and tasks.
        numbers: rows of ``config/published/{name}.csv``; none where nothing is published.
    """
    table, tasks = TABLES[name], records[0]["tasks"]
    by: Sequence[str] = ()
    if table.paper == MERGELOCK:
        rows = mergelock.pair_rows(records, table.method)
        columns, by = mergelock.columns(tasks), mergelock.BY
    elif table.paper == MERGEGUARD:
        rows = mergeguard.ROWS[table.number](mergeguard.Measured(records))
        columns, by = mergeguard.columns(tasks), mergeguard.BY
    else:
        rows = mergeguard.anchor_rows(mergeguard.Measured(records))
        columns = mergeguard.ANCHOR_COLUMNS
    if not rows:
        suite = records[0].get("suite", "")
        reason = f"the suite '{suite}' merges nothing for it (siblings): {table.label}"
        return explanation(suite, name, reason)
    return with_published(rows, columns, published(name, numbers), by), rows


def render(name: str, rows: Rows, source: str) -> str:
    """A table as LaTeX.

    Args:
        name: as of :func:`collect`.
        rows: those of its CSV file.
        source: what the numbers are of, for the caption.
    """
    table = TABLES[name]
    if table.paper == MERGELOCK:
        return render_pairs(table.number, rows, source)
    if table.paper == MERGEGUARD:
        return render_merges(table.number, rows, source)
    return render_anchor(rows, source)


def published(name: str, numbers: Rows) -> list[TextRow]:
    """Published numbers as rows of a table, its tasks by their titles; none of none."""
    if not numbers:
        return []
    rows_of = {MERGELOCK: mergelock.published_pairs, MERGEGUARD: mergeguard.published_rows}
    return rows_of[TABLES[name].paper](numbers)


def claimed(name: str, rows: Rows) -> list[TextRow]:
    """A run's table as claims see it: a number a row, the anchor-guided attack's as it is."""
    whole = [dict(row) for row in rows]
    paper = TABLES[name].paper
    if "not_applicable" in rows[0] or paper not in {MERGELOCK, MERGEGUARD}:
        return whole
    return numbers_of(mergelock.with_differences(whole) if paper == MERGELOCK else whole)


def claimed_published(numbers: Mapping[str, Rows]) -> dict[str, list[TextRow]]:
    """The published tables as claims see them, with what follows from their printed numbers.

    Args:
        numbers: rows of ``config/published/{name}.csv`` by name.
    """
    found = {name: published(name, rows) for name, rows in numbers.items()}
    normal = found["mergeguard_table2"]
    for name, rows in found.items():
        if TABLES[name].paper == MERGEGUARD:
            found[name] = mergeguard.derived(rows, normal)
        else:
            found[name] = mergelock.with_differences(rows)
    return {name: numbers_of(rows) for name, rows in found.items()}
