"""The paper's own numbers (config/published/), in the layouts of this project's tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trap2.merging.catalogue import data_column
from trap2.report.shapes import Row, TextRow
from trap2.report.tables.correlations import STATISTICS
from trap2.report.tables.rows import percent
from trap2.runtime import files
from trap2.suites.paper import TABLES


def read_published(paths: Iterable[str | Path]) -> dict[int, list[TextRow]]:
    """Number of a table to its published rows, from all files ``config/published/tableN.csv``."""
    return {
        number: published_rows(TABLES[number].kind, files.read_csv(path))
        for number, path in zip(TABLES, paths, strict=True)
    }


def published_rows(kind: str, numbers: Iterable[Row]) -> list[TextRow]:
    """A published table, one number a row, as the rows that this project writes.

    Args:
        kind: the table's layout (:data:`trap2.suites.paper.TABLES`).
        numbers: rows of ``config/published/tableN.csv``.

    Returns:
        Rows as in ``results/{suite}/tableN.csv``, with the suite ``published`` and the
        paper's names of the tasks as columns.
    """
    if kind == "correlation":
        return _correlations(numbers)
    rows: dict[tuple[str, ...], TextRow] = {}
    for entry in numbers:
        if entry.get("source", "paper") != "paper":
            continue
        facts = {"suite": "published"} | {k: entry[k] for k in ("backbone", "release")}
        if kind in {"complete", "complete-data"}:
            facts["merge_method"] = method_of(entry)
            facts["merge_space"] = entry.get("merge_space", "Full")
        facts["protection"] = entry["protection"]
        row = rows.setdefault(tuple(facts.values()), facts)
        row[_column(kind, entry)] = percent(float(entry["accuracy"]))
    return _filled(list(rows.values()))


def _filled(rows: list[TextRow]) -> list[TextRow]:
    """The rows with the columns of all of them, the average last, empty where one has none."""
    names = dict.fromkeys(name for row in rows for name in row if name != "average")
    if any("average" in row for row in rows):
        names["average"] = None
    return [{name: row.get(name, "") for name in names} for row in rows]


def method_of(entry: Row) -> str:
    """A merging method's name, with R or C where it samples data."""
    method = entry.get("merge_method") or entry["method"]
    return data_column(method, entry["sampling"]) if entry.get("sampling") else method


def _column(kind: str, entry: Row) -> str:
    if kind == "merging":
        return f"{entry['merge_method']}-{entry['merge_space']}"
    if kind == "data":
        return method_of(entry)
    name = entry["task"] if kind == "standalone" else entry["protected_task"]
    return "average" if name == "Average" else name


def _correlations(numbers: Iterable[Row]) -> list[TextRow]:
    """The upper triangles that are published, as whole symmetric matrices."""
    values: dict[tuple[str, str, str], str] = {}
    pairs: dict[str, str] = {}
    for entry in numbers:
        kind, x, y = entry["correlation"], entry["x"], entry["y"]
        values[kind, x, y] = values[kind, y, x] = percent(float(entry["value"]))
        pairs[kind] = entry["n_pairs"]
    return [
        {"suite": "published", "backbone": "ViT-B-32", "release": "lora", "protection": "trap2"}
        | {"correlation": kind, "n_pairs": count, "statistic": row}
        | {column: values.get((kind, row, column), percent(1.0)) for column in STATISTICS}
        for kind, count in pairs.items()
        for row in STATISTICS
    ]
