"""Figure 8: the matrix of paths between the adapters of all pairs."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trap2.report.figures import style
from trap2.report.figures.given import Given
from trap2.report.figures.points import path_rows
from trap2.report.names import task_title
from trap2.report.shapes import Point
from trap2.updates.records import PairsRecord

_LINEAR = 1.0


def plot(given: Given[PairsRecord]) -> tuple[Figure, list[Point]]:
    """The figure and its numbers from the path of every pair."""
    rows = path_rows(given.records[0])
    return figure8(rows, given.tasks, given.about("test split")), rows


def figure8(rows: Sequence[Point], tasks: Sequence[str], about: str) -> Figure:
    """Figure 8: a matrix of paths, the loss of both tasks from one adapter to the other.

    Args:
        rows: the points of all pairs (:func:`trap2.report.figures.points.path_rows`).
        tasks: rows (TRAP²) and columns (unprotected) of the matrix, in order.
        about: suite and backbone, for the caption.
    """
    count = len(tasks)
    width = 1.35 if count <= 5 else 7.6 / count
    figure, panels = style.panels(count, count, width, 0.85 * width)
    limits = _loss_limits(rows)
    for place, axes in enumerate(panels):
        row, column = divmod(place, count)
        row_task, column_task = tasks[row], tasks[column]
        if row == 0:
            axes.set_title(task_title(column_task), fontsize=9 if count <= 5 else 8)
        if column == 0:
            axes.set_ylabel(task_title(row_task), fontsize=9 if count <= 5 else 8)
        if row_task == column_task:
            _empty_panel(axes)
            continue
        points = [
            point
            for point in rows
            if (point["protected_task"], point["unprotected_task"]) == (row_task, column_task)
        ]
        for side, curve in style.SIDE_CURVES.items():
            _path(axes, points, side, curve)
        axes.axvline(style.MIDPOINT, **style.NOMINAL)
        axes.axhline(0, **style.NOMINAL)
        axes.set_yscale("symlog", linthresh=_LINEAR)
        axes.set_ylim(*limits)
        axes.set_xlim(-0.06, 1.06)
        axes.set_yticks([0, 1, 10], ["0", "1", "10"])
        axes.set_yticks([], minor=True)
        axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        # The diagonal is empty: its neighbour has the scale.
        first, last = column == (row == 0), row == count - 1 - (column == count - 1)
        if row == count - 1:
            axes.set_xlabel("β", labelpad=1)
        axes.tick_params(
            labelleft=first,
            labelbottom=last,
            labelsize=8 if count <= 5 else 7,
            length=2,
        )
        # Their scales stand on the empty panel and make no room between the others.
        axes.yaxis.set_in_layout(column == 0)
        axes.xaxis.set_in_layout(row == count - 1)
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=2,
        title="Rows: TRAP² adapter, columns: unprotected adapter",
        title_fontsize=9,
    )
    figure.supylabel("Increase of test loss (nats)", fontsize=9)
    style.caption(
        figure,
        f"{about}. Row: TRAP² adapter, at β = 0. Column: unprotected adapter, at β = 1. Each loss "
        "is relative to that of the task's own adapter, on a log scale above 1; "
        "the dot marks the average of the two adapters, β = ½.",
    )
    return figure


def _loss_limits(rows: Sequence[Point]) -> tuple[float, float]:
    values = [row[f"{side}_delta_loss"] for row in rows for side in style.SIDE_CURVES]
    return min(-0.5, 1.2 * min(values)), max(2.0, 1.6 * max(values))


def _path(axes: Axes, points: Sequence[Point], side: str, curve: style.Look) -> None:
    task = {"protected": "row's task (TRAP²)", "unprotected": "column's task (unprotected)"}[side]
    line = {key: curve[key] for key in ("color", "linestyle")}
    values = [point[f"{side}_delta_loss"] for point in points]
    axes.plot(
        [p["beta"] for p in points],
        values,
        linewidth=1.3,
        label=f"Loss increase on the {task}",
        **line,
    )
    middle = next(p for p in points if p["beta"] == style.MIDPOINT)
    axes.plot(
        style.MIDPOINT, middle[f"{side}_delta_loss"], "o", color=curve["color"], markersize=3.5
    )


def _empty_panel(axes: Axes) -> None:
    axes.set_facecolor("#EEEEEE")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    # Behind the scales of its neighbours.
    axes.set_zorder(-1)
