"""What ordinary use does to protected updates, relative to what they are as released."""

from __future__ import annotations

from matplotlib.figure import Figure

from trap2.attacks.measure import KEPT_ENOUGH
from trap2.report.figures.matrix import Mark, column_of, draw, shade
from trap2.report.shapes import Row, Rows

_DARKEST = 50.0


def handling_figure(rows: Rows, about: str) -> Figure:
    """A matrix of treatments by protections.

    Args:
        rows: those of ``handling.csv``.
        about: suite and seed, for the caption.
    """
    columns = list(dict.fromkeys(column_of(row) for row in rows))
    lines = [("", name) for name in dict.fromkeys(row["title"] for row in rows)]
    marks = {(("", row["title"]), column_of(row)): _mark(row) for row in rows if row["relative"]}
    legend = [
        shade(lost / _DARKEST, f"{100 - lost:g} %" + " or less" * (lost == _DARKEST))
        for lost in (0, 10, 25, _DARKEST)
    ]
    caption = (
        f"{about}. Standalone test accuracy after each treatment in percent of that as released, "
        f"mean over the tasks. Bold: below {KEPT_ENOUGH:g} %. Dash: no score (handling.csv says "
        "why)."
    )
    return draw(lines, columns, marks, legend, caption)


def _mark(row: Row) -> Mark:
    value = float(row["relative"])
    shade = min(1.0, max(0.0, (100 - value) / _DARKEST))
    return Mark(value, shade, bold=value < KEPT_ENOUGH)
