"""Figure 5: what averaging N updates does to each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from trap2.evaluation.scale_grid import averaging_counts
from trap2.report.figures import style
from trap2.report.figures.given import Given
from trap2.report.figures.points import averaging_rows
from trap2.report.names import task_title
from trap2.report.shapes import Point
from trap2.updates.records import ScaleRecord, ScalesRecord

Profile = list[ScaleRecord]


def plot(given: Given[ScalesRecord]) -> tuple[Figure, list[Point]]:
    """The figure and its numbers from the scale sweeps of both protections."""
    sweeps = {record["protection"]: record["sweeps"] for record in given.records}
    figure = figure5(sweeps, given.zero_shot, given.tasks, given.about("test split"))
    return figure, averaging_rows(given.records, given.tasks, given.zero_shot)


def figure5(
    sweeps: Mapping[str, Mapping[str, Profile]],
    zero_shot: Mapping[str, float],
    tasks: Sequence[str],
    about: str,
) -> Figure:
    """Figure 5: the uniform-averaging proxy, accuracy at s = 1/N, one panel a task.

    Args:
        sweeps: for ``unprotected`` and ``trap2`` the sweeps of all tasks.
        zero_shot: the base model's test accuracy in percent, by task.
        tasks: the panels, in order.
        about: suite and backbone, for the caption.
    """
    figure, panels = style.panels(*style.grid_shape(len(tasks)), 2.0, 2.05)
    counts = averaging_counts(len(tasks))
    for axes, task in zip(panels, tasks, strict=False):
        for protection, by_task in sweeps.items():
            at = {point["s"]: point["accuracy"] for point in by_task[task]}
            axes.plot(counts, [at[1 / n] for n in counts], **style.CURVES[protection])
        axes.axhline(zero_shot[task], **style.ZERO_SHOT)
        axes.set_title(task_title(task))
        axes.set_xticks(counts)
        axes.set_xlabel("Averaged updates N")
        style.percent_axis(axes)
        axes.label_outer()
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    style.caption(figure, f"{about}. Each update alone, scaled by s = 1/N.")
    return figure
