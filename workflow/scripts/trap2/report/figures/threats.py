"""The threats: what every attack acquires of every protection, and whether it keeps the rest."""

from __future__ import annotations

from matplotlib.figure import Figure

from trap2.attacks.measure import ACQUIRED, ACQUIRED_ENOUGH, DESTROYED, KEPT_ENOUGH, NOT_APPLICABLE
from trap2.report.figures.matrix import Line, Mark, column_of, draw, hatching, shade
from trap2.report.shapes import Row, Rows

GROUPS = {
    "all": "",
    "coefficients": "Coefficients",
    "update": "The protected update",
    "alignment": "Alignment",
    "data": "With data",
}
"""The groups of attacks as the figure calls them."""


def threats_figure(rows: Rows, about: str) -> Figure:
    """A matrix of attacks by protections.

    Args:
        rows: those of ``threats.csv``.
        about: suite and seed, for the caption.
    """
    columns = list(dict.fromkeys(column_of(row) for row in rows))
    found = dict.fromkeys(_line(row) for row in rows)
    # A format lacks attacks that another one has; the groups keep their order.
    lines = [line for title in GROUPS.values() for line in found if line[0] == title]
    shown = [row for row in rows if row["verdict"] != NOT_APPLICABLE]
    marks = {(_line(row), column_of(row)): _mark(row) for row in shown}
    legend = [shade(share / 100, f"{share} % acquired") for share in (0, 50, 100)]
    legend.append(hatching(f"keeps less than {KEPT_ENOUGH:g} %"))
    caption = (
        f"{about}. Percent of the way from zero-shot to the unprotected merge that an attack gets "
        "on the protected tasks, of all that there is to gain on them; hatched where the other "
        f"tasks keep less than {KEPT_ENOUGH:g} % of that merge. Bold: acquired (at least "
        f"{ACQUIRED_ENOUGH:g} %, the others kept). Below −99 stands −99. Dash: not "
        "tried, or not applicable (threats.csv says why)."
    )
    return draw(lines, columns, marks, legend, caption)


def _line(row: Row) -> Line:
    return GROUPS[row["group"]], row["title"]


def _mark(row: Row) -> Mark:
    value = float(row["acquired"]) if row["acquired"] else None
    if row["verdict"] == DESTROYED:
        return Mark(value, None)
    return Mark(value, min(1.0, max(0.0, (value or 0) / 100)), bold=row["verdict"] == ACQUIRED)
