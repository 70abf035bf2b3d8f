"""Several seeds: mean and standard deviation of every number of a table."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from trap2.report.shapes import Row, Rows, TextRow
from trap2.report.tables.columns import FACTS, NOTES, SEEDS, STD, numbers
from trap2.report.tables.rows import percent
from trap2.runtime.errors import Trap2Error


def over_seeds(
    suite: str, seeds: Sequence[int], tables: Sequence[Rows]
) -> tuple[list[str], list[TextRow]]:
    """One table from those of several seeds.

    Args:
        suite: the suite's name, without a seed.
        seeds: the seeds, at least two.
        tables: each seed's rows, in the same order.

    Returns:
        Columns and rows: the facts, the mean of each number under its name, then the standard
        deviations (n - 1 in the denominator) under ``{name}_std``, and the seeds.  A table that
        the suite cannot have stays as it is.

    Raises:
        ValueError: the tables have different rows or columns.
    """
    first = tables[0]
    if "not_applicable" in first[0]:
        return list(first[0]), [dict(row) for row in first]
    names = numbers(first[0])
    facts = [name for name in first[0] if name in FACTS and name != NOTES]
    rows = []
    for members in zip(*tables, strict=True):
        if len({tuple(row[name] for name in facts[1:]) for row in members}) > 1:
            raise Trap2Error(
                f"the seeds' tables of {suite} have different rows, such as {dict(members[0])}; "
                "delete them and run snakemake again"
            )
        row = {name: members[0][name] for name in facts} | {"suite": suite}
        values = {name: [float(each[name]) for each in members if each[name]] for name in names}
        row |= {name: percent(mean(found)) if found else "" for name, found in values.items()}
        row |= {name + STD: percent(stdev(v)) if v else "" for name, v in values.items()}
        row[SEEDS] = " ".join(map(str, seeds))
        if NOTES in members[0]:
            row[NOTES] = members[0][NOTES]
        rows.append(row)
    return list(rows[0]), rows


def with_deviation(row: Row, name: str) -> str:
    """A number as tables print it, with its deviation over seeds where it has one."""
    deviation = row.get(name + STD)
    return f"{row[name]} ± {deviation}" if deviation else row[name]
