"""A run beside the published numbers: their difference, or who is above whom.

A suite with the paper's backbones and datasets is compared number by number.  Another one, like
the demo, has numbers of its own: there it is the pattern that is compared, each protection with
its reference in the same column, and with the paper's order on the backbone of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trap2.report.names import task_title
from trap2.report.shapes import Row, Rows, TextRow
from trap2.report.tables.columns import FACTS, REFERENCES
from trap2.suites.paper import TABLES

Tables = Mapping[int, Rows]


NUMBER_COLUMNS = ["suite", "table", "backbone", "release", "protection", "column"]


NUMBER_COLUMNS += ["published", "ours", "difference"]


PATTERN_COLUMNS = ["suite", "table", "backbone", "release", "column", "protection", "reference"]


PATTERN_COLUMNS += ["ours", "reference_value", "difference", "order"]


PATTERN_COLUMNS += ["published_backbone", "published_order", "agrees"]


LEVEL = 0.05
"""Closer than this share of the reference, two values are level: the paper's own 95 %."""


# Backbones of each kind in the order in which the paper's tables show them.
PUBLISHED_BACKBONES = {"vit": ("ViT-B-32", "ViT-L-14"), "convnext": ("convnext_base_w",)}

Values = dict[tuple[str, str, str, str], float]


def values_of(number: int, rows: Rows) -> Values:
    """The numbers of a table by (backbone, release, protection, column), columns as printed.

    The column of Tables 7 to 11 is ``method-space: task``, of Table 6 ``correlation: x, y``.
    """
    values: Values = {}
    if rows and "not_applicable" in rows[0]:
        return values
    for row in rows:
        for name, text in row.items():
            if name in FACTS or not text:
                continue
            column = "Average" if name == "average" else _column_title(number, name)
            if "merge_method" in row:
                column = f"{row['merge_method']}-{row['merge_space']}: {column}"
            elif "correlation" in row:
                column = f"{row['correlation']}: {row['statistic']}, {name}"
            key = (row["backbone"], row["release"], row["protection"], column)
            values[key] = float(text)
    return values


def _column_title(number: int, name: str) -> str:
    return name if TABLES[number].kind in {"merging", "data"} else task_title(name)


def number_rows(suite: str, ours: Tables, published: Tables) -> list[TextRow]:
    """Published, ours and difference for every published number that the run has too."""
    rows = []
    for number in sorted(published):
        found = values_of(number, ours.get(number, []))
        for key, value in values_of(number, published[number]).items():
            if key in found:
                facts = dict(zip(("backbone", "release", "protection", "column"), key, strict=True))
                rows.append(
                    {"suite": suite, "table": str(number)}
                    | facts
                    | {"published": f"{value:.3f}", "ours": f"{found[key]:.3f}"}
                    | {"difference": f"{found[key] - value:+.3f}"}
                )
    return rows


def order(value: float, reference: float) -> str:
    """``below``, ``above`` or ``level`` (within 5 % of the reference)."""
    if abs(value - reference) <= LEVEL * abs(reference):
        return "level"
    return "below" if value < reference else "above"


def pattern_rows(
    suite: str, ours: Tables, published: Tables, families: Mapping[str, str]
) -> list[TextRow]:
    """Each protection against its reference in every column, and the paper's order beside it.

    Args:
        suite: its name.
        ours: the run's tables by number.
        published: the published tables by number, in the same layouts.
        families: ``vit`` or ``convnext`` by backbone of the suite.
    """
    rows = []
    for number in sorted(ours):
        if TABLES[number].kind == "correlation":
            continue
        mine, theirs = values_of(number, ours[number]), values_of(number, published[number])
        for key, value, reference_name, reference in _against_reference(number, mine):
            backbone, release, protection, column = key
            row = {"suite": suite, "table": str(number), "backbone": backbone, "release": release}
            row |= {"column": column, "protection": protection, "reference": reference_name}
            row |= {"ours": f"{value:.3f}", "reference_value": f"{reference:.3f}"}
            row |= {"difference": f"{value - reference:+.3f}", "order": order(value, reference)}
            rows.append(row | _published_order(row, theirs, families[backbone]))
    return rows


def _against_reference(
    number: int, values: Values
) -> Iterator[tuple[tuple[str, str, str, str], float, str, float]]:
    name = REFERENCES.get(TABLES[number].kind, "unprotected")
    for key, value in values.items():
        backbone, release, protection, column = key
        # The unprotected merge has an average alone.
        alone = f"{column.rsplit(':', 1)[0]}: Average" if ":" in column else column
        reference = values.get((backbone, release, name, alone))
        if protection != name and reference is not None:
            yield key, value, name, reference


def _published_order(row: Row, theirs: Values, family: str) -> TextRow:
    for backbone in PUBLISHED_BACKBONES.get(family, ()):
        for key, value, _, reference in _against_reference(int(row["table"]), theirs):
            if key == (backbone, row["release"], row["protection"], row["column"]):
                found = order(value, reference)
                return {
                    "published_backbone": backbone,
                    "published_order": found,
                    "agrees": "yes" if found == row["order"] else "no",
                }
    return {"published_backbone": "", "published_order": "", "agrees": ""}
