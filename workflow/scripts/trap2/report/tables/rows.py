"""Rows of the tables: the paper's layouts, accuracy in percent with three decimals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def percent(value: float) -> str:
    """An accuracy in percent as the paper prints it."""
    return f"{value:.3f}"


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean, summed in order."""
    numbers = list(values)
    return sum(numbers) / len(numbers)


def group(records: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> dict[tuple, list]:
    """Records by the values of some keys, groups and records in order of first appearance."""
    groups: dict[tuple, list] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in keys), []).append(record)
    return groups


def facts_of(record: Mapping[str, Any]) -> dict[str, str]:
    """What a row says of the record that it comes from; the column ``release`` is its format."""
    return {
        "suite": record["suite"],
        "backbone": record["backbone"],
        "release": record["release_format"],
        "protection": record["protection"],
    }


def standalone_rows(records: Iterable[Mapping[str, Any]], tasks: list[str]) -> list[dict[str, str]]:
    """Tables 1 and 3: test accuracy of each update used alone, a row a protection.

    Args:
        records: zero-shot and update records (``heads/{task}.json``, ``update.json``).
        tasks: the columns.
    """
    rows = []
    for (suite, backbone, release_format, protection), members in group(
        records, ("suite", "backbone", "release_format", "protection")
    ).items():
        accuracy = {record["task"]: record["test"]["accuracy"] for record in members}
        name = "fine-tuned" if protection == "unprotected" else protection
        rows.append(
            {"suite": suite, "backbone": backbone, "release": release_format, "protection": name}
            | {task: percent(accuracy[task]) for task in tasks}
            | {"average": percent(mean(accuracy[task] for task in tasks))}
        )
    return rows


def merge_average(cell: Mapping[str, Any]) -> float:
    """Mean over the tasks of a merged model's test accuracy, in percent."""
    return mean(score["accuracy"] for score in cell["test"].values())


def merging_rows(merges: Iterable[Mapping[str, Any]], columns: list[str]) -> list[dict[str, str]]:
    """Tables 2 and 4: accuracy after merging, averaged over tasks and protected tasks.

    Args:
        merges: merge files, each one set of updates with its cells.
        columns: ``{method}-{space}`` names.
    """
    rows = []
    for (suite, backbone, release_format, protection), members in group(
        merges, ("suite", "backbone", "release_format", "protection")
    ).items():
        row = {
            "suite": suite,
            "backbone": backbone,
            "release": release_format,
            "protection": protection,
        }
        for column in columns:
            averages = [merge_average(merge["cells"][column]) for merge in members]
            row[column] = percent(mean(averages))
        rows.append(row)
    return rows


CELL_KEYS = ["suite", "backbone", "release", "protection", "protected_task"]


CELL_COLUMNS = [*CELL_KEYS, "merge_method", "merge_space", "options", "coefficient", "seed"]


def cell_rows(merges: Iterable[Mapping[str, Any]], tasks: list[str]) -> list[dict[str, str]]:
    """One row a merge, with its coefficient and its test accuracy on every task."""
    rows = []
    for merge in merges:
        for cell in merge["cells"].values():
            options = cell["options"]
            rows.append(
                facts_of(merge)
                | {"protected_task": merge["protected_task"]}
                | {key: cell[key] for key in ("merge_method", "merge_space")}
                | {"options": ";".join(f"{key}={options[key]}" for key in sorted(options))}
                | {"coefficient": f"{cell['coefficient']:g}", "seed": str(merge["seed"])}
                | {task: percent(cell["test"][task]["accuracy"]) for task in tasks}
                | {"average": percent(merge_average(cell))}
            )
    return rows


COMPLETE_KEYS = ["suite", "backbone", "release", "merge_method", "merge_space", "protection"]


def complete_rows(
    merges: Iterable[Mapping[str, Any]], tasks: list[str], cells: list[str]
) -> list[dict[str, str]]:
    """Tables 7 to 11: accuracy after merging, one column a protected task.

    Nothing is protected in the unprotected merge: its row has an average alone.

    Args:
        merges: merge files of one release format; their cells name ``merge_method`` and
            ``merge_space``.
        tasks: the columns.
        cells: the merges' cells, in the rows' order.
    """
    rows = []
    for (suite, backbone, release_format), members in group(
        merges, ("suite", "backbone", "release_format")
    ).items():
        facts = {"suite": suite, "backbone": backbone, "release": release_format}
        for column in cells:
            cell = members[0]["cells"][column]
            cell_facts = {key: cell[key] for key in ("merge_method", "merge_space")}
            for (protection,), trials in group(members, ("protection",)).items():
                averages = {m["protected_task"]: merge_average(m["cells"][column]) for m in trials}
                row = facts | cell_facts | {"protection": protection}
                row |= {task: percent(averages[task]) for task in tasks if task in averages}
                rows.append(row | {"average": percent(mean(averages.values()))})
    return rows


def explanation(suite: str, number: int, reason: str) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and the one row of a table that a suite cannot have."""
    row = {"suite": suite, "table": str(number), "not_applicable": reason}
    return list(row), [row]
