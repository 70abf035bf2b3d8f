"""The figures of adapters alone: what an update does at scales other than 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trap2.report import style
from trap2.report.names import task_title
from trap2.report.scales import averaging_counts

Profile = list[Mapping[str, Any]]


def figure2(profiles: Mapping[str, Profile], zero_shot: float, about: str) -> Figure:
    """Figure 2: loss and accuracy of one task over the scaling factor s.

    Args:
        profiles: for ``unprotected`` and ``trap2`` the scores at each scale.
        zero_shot: the base model's test accuracy in percent, s = 0.
        about: suite, backbone and task, for the caption.
    """
    figure, (left, right) = style.panels(1, 2, 3.6, 2.9)
    for protection, profile in profiles.items():
        curve = style.CURVES[protection]
        scales = [point["s"] for point in profile]
        left.plot(scales, [point["loss"] for point in profile], **_line(curve))
        right.plot(scales, [point["accuracy"] for point in profile], **_line(curve))
        _nominal_star(left, profile, "loss", curve["color"])
        _nominal_star(right, profile, "accuracy", curve["color"])
    base = next(point for point in next(iter(profiles.values())) if point["s"] == 0)
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


def figure5(
    profiles: Mapping[str, Mapping[str, Profile]],
    zero_shot: Mapping[str, float],
    tasks: list[str],
    about: str,
) -> Figure:
    """Figure 5: the uniform-averaging proxy, accuracy at s = 1/N, one panel a task.

    Args:
        profiles: for ``unprotected`` and ``trap2`` the profiles of all tasks.
        zero_shot: the base model's test accuracy in percent, by task.
        tasks: the panels, in order.
        about: suite and backbone, for the caption.
    """
    figure, panels = style.panels(*style.grid_shape(len(tasks)), 2.0, 2.05)
    counts = averaging_counts(len(tasks))
    for axes, task in zip(panels, tasks, strict=False):
        for protection, by_task in profiles.items():
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


def figure6(rows: Sequence[Mapping[str, Any]], tasks: Sequence[str], about: str) -> Figure:
    """Figure 6: the weight that Chain of Merges gives each adapter once it is protected.

    Args:
        rows: :func:`trap2.report.figure_data.coefficient_rows`.
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


def _protected_weights(
    rows: Sequence[Mapping[str, Any]], method: str
) -> dict[str, tuple[float, float]]:
    """By protected task, its own normalised weight and the mean of the others'."""
    found = {}
    for task in dict.fromkeys(row["protected_task"] for row in rows):
        trial = [r for r in rows if (r["merge_method"], r["protected_task"]) == (method, task)]
        others = [row["normalised"] for row in trial if row["task"] != task]
        own = next(row["normalised"] for row in trial if row["task"] == task)
        found[task] = (own, sum(others) / len(others))
    return found


def figure7(rows: Sequence[Mapping[str, Any]], tasks: Sequence[str], about: str) -> Figure:
    """Figure 7: change of the test loss as an update is scaled down, one panel a task.

    Args:
        rows: :func:`trap2.report.figure_data.profile_rows`; scales above 1 are left out.
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
                **_line(style.CURVES[protection]),
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


def _line(curve: Mapping[str, Any]) -> dict[str, Any]:
    return {**curve, "markersize": 3.5}


def _nominal_star(axes: Axes, profile: Profile, value: str, color: str) -> None:
    point = next(point for point in profile if point["s"] == 1)
    axes.plot(1, point[value], marker="*", markersize=13, color=color, mec="black", zorder=5)
