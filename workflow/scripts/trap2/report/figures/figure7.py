"""Figure 7: change of the test loss as an update is scaled down."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from trap2.report.figures import style
from trap2.report.figures.given import Given
from trap2.report.figures.points import scale_rows
from trap2.report.names import task_title
from trap2.report.shapes import Point
from trap2.updates.records import ScalesRecord


def plot(given: Given[ScalesRecord]) -> tuple[Figure, list[Point]]:
    """The figure and its numbers from the scale sweeps of both protections."""
    rows = [row for row in scale_rows(given.records, given.tasks) if row["s"] <= 1]
    return figure7(rows, given.tasks, given.about("test split")), rows


def figure7(rows: Sequence[Point], tasks: Sequence[str], about: str) -> Figure:
    """Figure 7: change of the test loss as an update is scaled down, one panel a task.

    Args:
        rows: :func:`trap2.report.figures.points.scale_rows`; scales above 1 are left out.
        tasks: the panels, in order.
        about: suite and backbone, for the caption.
    """
    figure, panels = style.panels(*style.grid_shape(len(tasks)), 2.0, 2.05)
    shown = [row for row in rows if row["s"] <= 1]
    values = [row["delta_loss"] for row in shown]
    limits = min(-0.5, 1.3 * min(values)), max(2.0, 1.6 * max(values))
    for axes, task in zip(panels, tasks, strict=False):
        for protection in dict.fromkeys(row["protection"] for row in shown):
            points = [r for r in shown if (r["task"], r["protection"]) == (task, protection)]
            axes.plot(
                [point["s"] for point in points],
                [point["delta_loss"] for point in points],
                **style.marked(style.CURVES[protection]),
            )
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_title(task_title(task))
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(*limits)
        axes.set_yticks([0, 1, 10], ["0", "1", "10"])
        axes.set_yticks([], minor=True)
        axes.set_xticks([0, 0.5, 1])
        axes.set_xlabel("Scaling factor s")
        axes.set_ylabel("ΔL(s) (nats)")
        axes.label_outer()
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    style.caption(
        figure,
        f"{about}. ΔL(s): test loss at W0 + s·ΔW minus that at s = 1, on a log scale above 1; "
        "above the line, scaling down costs.",
    )
    return figure
