"""The figures of two adapters together: Figures 3, 4 and 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trap2.report import style
from trap2.report.names import task_title

Row = Mapping[str, Any]
SIDE_CURVES = {"protected": style.CURVES["trap2"], "unprotected": style.CURVES["unprotected"]}
MIDPOINT = 0.5
_LINEAR = 1.0


def figure3(rows: Sequence[Row], zero_shot: Mapping[str, float], about: str) -> Figure:
    """Figure 3: accuracy on both tasks along the path between their adapters.

    Args:
        rows: one pair's points (:func:`trap2.report.figure_data.path_rows`).
        zero_shot: the base model's test accuracy in percent, by task.
        about: suite and backbone, for the caption.
    """
    figure, (axes,) = style.panels(1, 1, 5.0, 3.3)
    betas = [row["beta"] for row in rows]
    titles = {side: task_title(rows[0][f"{side}_task"]) for side in SIDE_CURVES}
    labels = {
        "protected": f"{titles['protected']} (TRAP²)",
        "unprotected": f"{titles['unprotected']} (unprotected)",
    }
    for side, curve in SIDE_CURVES.items():
        values = [row[f"{side}_accuracy"] for row in rows]
        axes.plot(betas, values, **{**curve, "label": f"Accuracy on {labels[side]}"})
        base = {**style.ZERO_SHOT, "color": curve["color"]}
        base["label"] = f"Zero-shot on {titles[side]}"
        axes.axhline(zero_shot[rows[0][f"{side}_task"]], **base)
    axes.axvline(MIDPOINT, **style.NOMINAL)
    axes.set_xlabel("Position β on the path between the two adapters")
    axes.set_xticks(
        [0, 0.25, 0.5, 0.75, 1],
        [
            f"0\n{labels['protected']}",
            "0.25",
            "0.5\naverage",
            "0.75",
            f"1\n{labels['unprotected']}",
        ],
    )
    style.percent_axis(axes)
    figure.legend(loc="outside upper center", ncols=2)
    style.caption(figure, f"{about}. Weights: W0 + (1−β)·ΔW(TRAP²) + β·ΔW(unprotected).")
    return figure


def figure4(rows: Sequence[Row], tasks: Sequence[str], about: str) -> Figure:
    """Figure 4: three heat maps over the pairs, merged at one scale.

    Args:
        rows: all pairs (:func:`trap2.report.figure_data.pair_rows`).
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


def figure8(rows: Sequence[Row], tasks: Sequence[str], about: str) -> Figure:
    """Figure 8: a matrix of paths, the loss of both tasks from one adapter to the other.

    Args:
        rows: the points of all pairs (:func:`trap2.report.figure_data.path_rows`).
        tasks: rows (TRAP²) and columns (unprotected) of the matrix, in order.
        about: suite and backbone, for the caption.
    """
    count = len(tasks)
    width = 1.35 if count <= 5 else 7.6 / count
    figure, panels = style.panels(count, count, width, 0.85 * width)
    limits = _loss_limits(rows)
    for place, axes in enumerate(panels):
        row_task, column_task = tasks[place // count], tasks[place % count]
        if place < count:
            axes.set_title(task_title(column_task), fontsize=9 if count <= 5 else 8)
        if place % count == 0:
            axes.set_ylabel(task_title(row_task), fontsize=9 if count <= 5 else 8)
        if row_task == column_task:
            _empty_panel(axes)
            continue
        points = [
            row
            for row in rows
            if (row["protected_task"], row["unprotected_task"]) == (row_task, column_task)
        ]
        for side, curve in SIDE_CURVES.items():
            _path(axes, points, side, curve)
        axes.axvline(MIDPOINT, **style.NOMINAL)
        axes.axhline(0, **style.NOMINAL)
        axes.set_yscale("symlog", linthresh=_LINEAR)
        axes.set_ylim(*limits)
        axes.set_xlim(-0.06, 1.06)
        axes.set_yticks([0, 1, 10], ["0", "1", "10"])
        axes.set_yticks([], minor=True)
        axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        if place // count == count - 1:
            axes.set_xlabel("β", labelpad=1)
        axes.tick_params(
            labelleft=place % count == 0,
            labelbottom=place // count == count - 1,
            labelsize=8 if count <= 5 else 7,
            length=2,
        )
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


def _loss_limits(rows: Sequence[Row]) -> tuple[float, float]:
    values = [row[f"{side}_delta_loss"] for row in rows for side in SIDE_CURVES]
    return min(-0.5, 1.2 * min(values)), max(2.0, 1.6 * max(values))


def _path(axes: Axes, points: Sequence[Row], side: str, curve: Mapping[str, Any]) -> None:
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
    middle = next(p for p in points if p["beta"] == MIDPOINT)
    axes.plot(MIDPOINT, middle[f"{side}_delta_loss"], "o", color=curve["color"], markersize=3.5)


def _empty_panel(axes: Axes) -> None:
    axes.set_facecolor("#EEEEEE")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
