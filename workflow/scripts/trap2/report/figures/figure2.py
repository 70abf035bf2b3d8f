"""Figure 2: loss and accuracy of one task over the scale of its update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trap2.report.figures import style
from trap2.report.figures.given import Given
from trap2.report.figures.points import scale_rows
from trap2.report.shapes import Point
from trap2.updates.records import ScaleRecord, ScalesRecord

Profile = list[ScaleRecord]


def plot(given: Given[ScalesRecord]) -> tuple[Figure, list[Point]]:
    """The figure and its numbers from the scale sweeps of both protections."""
    sweeps = {record["protection"]: record["sweeps"][given.task] for record in given.records}
    about = given.about(f"task {given.task}", "test split")
    figure = figure2(sweeps, given.zero_shot[given.task], about)
    return figure, scale_rows(given.records, [given.task])


def figure2(sweeps: Mapping[str, Profile], zero_shot: float, about: str) -> Figure:
    """Figure 2: loss and accuracy of one task over the scaling factor s.

    Args:
        sweeps: for ``unprotected`` and ``trap2`` the scores at each scale.
        zero_shot: the base model's test accuracy in percent, s = 0.
        about: suite, backbone and task, for the caption.
    """
    figure, (left, right) = style.panels(1, 2, 3.6, 2.9)
    for protection, profile in sweeps.items():
        curve = style.CURVES[protection]
        scales = [point["s"] for point in profile]
        left.plot(scales, [point["loss"] for point in profile], **style.marked(curve))
        right.plot(scales, [point["accuracy"] for point in profile], **style.marked(curve))
        _nominal_star(left, profile, "loss", curve["color"])
        _nominal_star(right, profile, "accuracy", curve["color"])
    base = next(point for point in next(iter(sweeps.values())) if point["s"] == 0)
    for axes, value in ((left, base["loss"]), (right, zero_shot)):
        axes.axvline(1.0, **style.NOMINAL)
        axes.plot(0, value, "o", color="black", markersize=6, label="Zero-shot", zorder=4)
        axes.set_xlabel("Scaling factor s of the update")
    left.set_yscale("symlog", linthresh=1)
    left.set_ylim(bottom=0)
    left.set_ylabel("Test loss (nats, log scale above 1)")
    left.set_title("Loss over the scaling factor")
    right.set_title("Accuracy over the scaling factor")
    style.percent_axis(right)
    left.legend(loc="best")
    style.caption(figure, f"{about}. Star: the authorised scale s = 1.")
    return figure


def _nominal_star(
    axes: Axes, profile: Profile, value: Literal["loss", "accuracy"], color: str
) -> None:
    point = next(point for point in profile if point["s"] == 1)
    axes.plot(1, point[value], marker="*", markersize=13, color=color, mec="black", zorder=5)
