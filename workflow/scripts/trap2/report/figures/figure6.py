"""Figure 6: the weights that Chain of Merges gives a protected adapter."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from trap2.report.figures import style
from trap2.report.figures.given import Given
from trap2.report.figures.points import coefficient_rows
from trap2.report.names import task_title
from trap2.report.shapes import Point
from trap2.updates.records import MergeRecord


def plot(given: Given[MergeRecord]) -> tuple[Figure, list[Point]]:
    """The figure and its numbers from the merges with data, the unprotected one among them."""
    rows = coefficient_rows(given.records, given.cells)
    return figure6(rows, given.tasks, given.about()), rows


def figure6(rows: Sequence[Point], tasks: Sequence[str], about: str) -> Figure:
    """Figure 6: the weight that Chain of Merges gives each adapter once it is protected.

    Args:
        rows: :func:`trap2.report.figures.points.coefficient_rows`.
        tasks: the bars' groups, in order.
        about: suite and backbone, for the caption.
    """
    figure, (axes,) = style.panels(1, 1, max(4.2, 0.8 * len(tasks)), 3.0)
    methods = list(dict.fromkeys(row["merge_method"] for row in rows))
    width = 0.8 / len(methods)
    for number, (method, look) in enumerate(zip(methods, style.BARS, strict=False)):
        own = _protected_weights(rows, method)
        places = [k + (number - (len(methods) - 1) / 2) * width for k in range(len(tasks))]
        axes.bar(places, [own[task][0] for task in tasks], 0.92 * width, label=method, **look)
        axes.plot(
            places,
            [own[task][1] for task in tasks],
            "D",
            color="black",
            mfc="white",
            markersize=4,
            label="Mean of the other tasks" if number == 0 else None,
        )
    axes.axhline(1, color="black", linewidth=1, linestyle=":")
    axes.set_xticks(range(len(tasks)), [task_title(task) for task in tasks])
    axes.grid(False, axis="x")
    axes.set_xlabel("Task protected by TRAP²")
    axes.set_ylabel("Weight / weight when unprotected")
    figure.legend(loc="outside upper center", ncols=len(methods) + 1)
    style.caption(
        figure,
        f"{about}. Weights of Chain of Merges, mean over the layers, divided by those of the "
        "unprotected merge (dotted: no change). R: random samples, C: class-stratified ones.",
    )
    return figure


def _protected_weights(rows: Sequence[Point], method: str) -> dict[str, tuple[float, float]]:
    """By protected task, its own normalised weight and the mean of the others'."""
    found = {}
    for task in dict.fromkeys(row["protected_task"] for row in rows):
        trial = [r for r in rows if (r["merge_method"], r["protected_task"]) == (method, task)]
        others = [row["normalised"] for row in trial if row["task"] != task]
        own = next(row["normalised"] for row in trial if row["task"] == task)
        found[task] = (own, sum(others) / len(others))
    return found
