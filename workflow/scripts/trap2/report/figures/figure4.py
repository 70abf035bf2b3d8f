"""Figure 4: heat maps over all pairs, merged at one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trap2.report.figures import style
from trap2.report.figures.given import Given
from trap2.report.figures.points import pair_rows
from trap2.report.names import task_title
from trap2.report.shapes import Point
from trap2.updates.records import PairsRecord


def plot(given: Given[PairsRecord]) -> tuple[Figure, list[Point]]:
    """The figure and its numbers from every pair's merge."""
    rows = pair_rows(given.records[0])
    return figure4(rows, given.tasks, given.about("test split")), rows


def figure4(rows: Sequence[Point], tasks: Sequence[str], about: str) -> Figure:
    """Figure 4: three heat maps over the pairs, merged at one scale.

    Args:
        rows: all pairs (:func:`trap2.report.figures.points.pair_rows`).
        tasks: rows and columns of the maps, in order.
        about: suite and backbone, for the caption.
    """
    count = len(tasks)
    side = max(2.0, 0.29 * count)
    figure, panels = style.panels(1, 3, side + 0.15, side + 0.75)
    titles = {
        "protected_accuracy": "(a) Protected task",
        "unprotected_accuracy": "(b) Unprotected task",
        "average": "(c) Average of the two",
    }
    names = [task_title(task) for task in tasks]
    image = None
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        grid = np.full((count, count), np.nan)
        for row in rows:
            place = tasks.index(row["protected_task"]), tasks.index(row["unprotected_task"])
            grid[place] = row[column]
        image = axes.imshow(grid, vmin=0, vmax=100, cmap=style.ACCURACY_MAP)
        _annotate(axes, grid, 8.5 if count <= 5 else 6.8)
        axes.set_title(title)
        axes.grid(False)
        axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), names if axes is panels[0] else [""] * count)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    panels[0].set_ylabel("Task with the TRAP² adapter")
    panels[1].set_xlabel("Task with the unprotected adapter")
    assert image is not None
    bar = figure.colorbar(image, ax=panels, fraction=0.03, pad=0.015, shrink=0.8)
    bar.set_label("Test accuracy (%)")
    bar.outline.set_visible(False)
    style.caption(figure, f"{about}. Both adapters at scale {rows[0]['scale']:g}.")
    return figure


def _annotate(axes: Axes, grid: np.ndarray, size: float) -> None:
    for (row, column), value in np.ndenumerate(grid):
        if np.isnan(value):
            axes.text(column, row, "–", ha="center", va="center", color="#999999", fontsize=size)
        else:
            color = "white" if value < 55 else "black"
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=size
            )
