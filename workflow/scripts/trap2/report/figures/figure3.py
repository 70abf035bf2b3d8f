"""Figure 3: both tasks of a pair along the path between their adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from trap2.report.figures import style
from trap2.report.figures.given import Given
from trap2.report.figures.points import path_rows
from trap2.report.names import task_title
from trap2.report.shapes import Point
from trap2.updates.records import PairsRecord


def plot(given: Given[PairsRecord]) -> tuple[Figure, list[Point]]:
    """The figure and its numbers from one pair of the record."""
    pair = tuple(given.pair)
    rows = [
        row
        for row in path_rows(given.records[0])
        if (row["protected_task"], row["unprotected_task"]) == pair
    ]
    return figure3(rows, given.zero_shot, given.about("test split")), rows


def figure3(rows: Sequence[Point], zero_shot: Mapping[str, float], about: str) -> Figure:
    """Figure 3: accuracy on both tasks along the path between their adapters.

    Args:
        rows: one pair's points (:func:`trap2.report.figures.points.path_rows`).
        zero_shot: the base model's test accuracy in percent, by task.
        about: suite and backbone, for the caption.
    """
    figure, (axes,) = style.panels(1, 1, 5.0, 3.3)
    betas = [row["beta"] for row in rows]
    titles = {side: task_title(rows[0][f"{side}_task"]) for side in style.SIDE_CURVES}
    labels = {
        "protected": f"{titles['protected']} (TRAP²)",
        "unprotected": f"{titles['unprotected']} (unprotected)",
    }
    for side, curve in style.SIDE_CURVES.items():
        values = [row[f"{side}_accuracy"] for row in rows]
        axes.plot(betas, values, **{**curve, "label": f"Accuracy on {labels[side]}"})
        base = {**style.ZERO_SHOT, "color": curve["color"]}
        base["label"] = f"Zero-shot on {titles[side]}"
        axes.axhline(zero_shot[rows[0][f"{side}_task"]], **base)
    axes.axvline(style.MIDPOINT, **style.NOMINAL)
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
