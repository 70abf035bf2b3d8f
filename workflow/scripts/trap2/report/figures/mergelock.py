"""Merge-Lock's Figures 2 to 4: distances by layer, pairs over the coefficient, paths of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trap2.report.figures import style
from trap2.report.names import protection_title, task_title
from trap2.report.shapes import Point
from trap2.report.tables import siblings
from trap2.report.tables.rows import group, mean
from trap2.updates.sibling_records import SiblingPoint, SiblingRecord

PAIRS = {"qk": "Q and K", "vo": "V and O"}
"""The pairs of projections that Figure 2 shows."""

_LOOKS: dict[tuple[str, str], style.Look] = {
    ("unprotected", "none"): {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    ("params", "none"): {"color": "#CC79A7", "linestyle": (0, (6, 2)), "marker": "D"},
    ("params", "align-params"): {"color": "#CC79A7", "linestyle": ":", "marker": "d"},
    ("mergelock", "none"): {"color": "#D55E00", "linestyle": "--", "marker": "X"},
    ("mergelock", "align-rotation"): {"color": "#E69F00", "linestyle": "-.", "marker": "^"},
    ("mergelock", "aga"): {"color": "#000000", "linestyle": (0, (1, 1)), "marker": "P"},
    ("trap2", "none"): {"color": "#009E73", "linestyle": (0, (3, 1, 1, 1)), "marker": "s"},
}
"""Lines that are drawn, told apart by style and marker without colour; others are in the CSV."""

_THIN: style.Look = {"markersize": 3.8, "linewidth": 1.3}


@dataclass(frozen=True)
class SiblingFigure:
    """A figure of Merge-Lock's paper.

    Attributes:
        columns: of its CSV file.
        rows: the numbers, from the records of one backbone and the task to show.
        draw: the figure, from the rows and what the caption begins with.
    """

    columns: tuple[str, ...]
    rows: Callable[[Sequence[SiblingRecord], str], list[Point]]
    draw: Callable[[Sequence[Point], str], Figure]


def distance_rows(records: Sequence[SiblingRecord], task: str) -> list[Point]:
    """Figure 2: how far each attention layer lies from W0, a row a layer, pair and attack."""
    return [
        _facts(record) | {key: found[key] for key in ("attack", "pair", "layer", "distance")}
        for record in records
        if record["protected_task"] == task
        for attack in siblings.attacks_in_order(each["attack"] for each in record["distances"])
        for found in sorted(record["distances"], key=itemgetter("pair", "layer"))
        if found["attack"] == attack
    ]


def curve_rows(records: Sequence[SiblingRecord], task: str) -> list[Point]:
    """Figure 3: mean accuracy of the pairs of a task with every other one, over the coefficient."""
    rows = []
    for record in records:
        cells = siblings.cells_of(record, "curve", "TA") if record["protected_task"] == task else []
        for attack, own in group(cells, itemgetter("attack")).items():
            at: dict[float, list[float]] = {}
            for cell in own:
                for point in cell["points"]:
                    pair = siblings.pair_accuracy(point, cell, task)
                    at.setdefault(_coefficient(point), []).append(pair)
            for coefficient, values in at.items():
                row = _facts(record) | {"attack": attack, "coefficient": coefficient}
                rows.append(row | {"partners": len(values), "accuracy": mean(values)})
    return rows


def path_rows(records: Sequence[SiblingRecord], task: str) -> list[Point]:
    """Figure 4: loss of W0 + λ·ΔW of a protected update + (1 − λ)·ΔW of another, for each pair.

    ``loss`` is the mean of the two tasks'; a model that gives NaN has none.  ``task`` is not used:
    the suite says which pairs.
    """
    rows = []
    for record in records:
        own = record["protected_task"]
        for cell in siblings.cells_of(record, "path", "TA"):
            partner = str(cell["partner"])
            for point in cell["points"]:
                losses = [point["test"][name]["loss"] for name in (own, partner)]
                known = [loss for loss in losses if loss is not None]
                rows.append(
                    _facts(record)
                    | {"partner": partner, "attack": cell["attack"]}
                    | {"coefficient": _coefficient(point)}
                    | {"loss": mean(known) if len(known) == len(losses) else None}
                    | {"protected_loss": losses[0], "partner_loss": losses[1]}
                    | {"protected_accuracy": siblings.accuracy(point, own)}
                    | {"partner_accuracy": siblings.accuracy(point, partner)}
                )
    return rows


def _facts(record: SiblingRecord) -> Point:
    return {
        "suite": record["suite"],
        "backbone": record["backbone"],
        "protection": record["protection"],
        "protected_task": record["protected_task"],
    }


def _coefficient(point: SiblingPoint) -> float:
    assert point["coefficient"] is not None
    return point["coefficient"]


def figure2(rows: Sequence[Point], about: str) -> Figure:
    """Figure 2; arguments as :class:`SiblingFigure` says."""
    if not rows:
        return _nothing(about)
    figure, panels = style.panels(1, len(PAIRS), 3.4, 2.5)
    for axes, (pair, title) in zip(panels, PAIRS.items(), strict=True):
        _lines(axes, [row for row in rows if row["pair"] == pair], "layer", "distance")
        axes.set_yscale("log")
        axes.set_title(title, loc="left")
        axes.set_xlabel("Layer")
        axes.set_ylabel("Distance to pretrained")
        layers = sorted({row["layer"] for row in rows})
        axes.set_xticks(layers, [str(layer + 1) for layer in layers])
    _legend(figure, rows)
    task = task_title(rows[0]["protected_task"])
    text = "‖ΔW‖ of the two projections together, √(‖ΔW_a‖² + ‖ΔW_b‖²), without biases"
    style.caption(figure, f"{about}, {task}. {text}.")
    return figure


def figure3(rows: Sequence[Point], about: str) -> Figure:
    """Figure 3; arguments as :class:`SiblingFigure` says."""
    if not rows:
        return _nothing(about)
    figure, (axes,) = style.panels(1, 1, 4.6, 2.9)
    _lines(axes, rows, "coefficient", "accuracy")
    style.percent_axis(axes)
    axes.set_xlabel("Coefficient λ of both updates")
    _legend(figure, rows)
    task, partners = task_title(rows[0]["protected_task"]), max(row["partners"] for row in rows)
    text = f"{task} merged by TA with each of {partners} other tasks, unprotected"
    style.caption(figure, f"{about}. {text}; mean over the pairs and their two tasks.")
    return figure


def figure4(rows: Sequence[Point], about: str) -> Figure:
    """Figure 4; arguments as :class:`SiblingFigure` says."""
    if not rows:
        return _nothing(about)
    pairs = group(rows, itemgetter("protected_task", "partner"))
    columns = min(2, len(pairs))
    figure, panels = style.panels(-(-len(pairs) // columns), columns, 3.4, 2.4)
    for axes in panels[len(pairs) :]:
        axes.set_axis_off()
    for axes, ((protected, partner), own) in zip(panels, pairs.items(), strict=False):
        for name, line in (("protected_loss", "--"), ("partner_loss", ":")):
            thin = {"linestyle": line, "marker": "", "linewidth": 0.8, "alpha": 0.8}
            _lines(axes, own, "coefficient", name, thin)
        _lines(axes, own, "coefficient", "loss", {"linestyle": "-"})
        titles = task_title(protected), task_title(partner)
        axes.set_title(f"{titles[0]} / {titles[1]}", loc="left")
        axes.set_xlabel(f"λ (0: {titles[1]} alone, 1: {titles[0]} alone)")
        axes.set_ylabel("Test loss")
    _legend(figure, rows, {"linestyle": "-"})
    style.caption(
        figure,
        f"{about}, test split. W0 + λ·ΔW of the first task's update + (1 − λ)·ΔW of the second's, "
        "which is unprotected. Marked: mean of the two tasks' losses; dashed: the first task's, "
        "dotted: the second's.",
    )
    return figure


def _nothing(about: str) -> Figure:
    figure, (axes,) = style.panels(1, 1, 3.4, 0.6)
    axes.set_axis_off()
    style.caption(figure, f"{about}. The suite merges nothing that this figure shows.")
    return figure


def _line(row: Point) -> tuple[str, str]:
    return row["protection"], row["attack"]


def _lines(
    axes: Axes, rows: Iterable[Point], x: str, y: str, look: style.Look | None = None
) -> None:
    for line, own in group(rows, _line).items():
        if line in _LOOKS:
            shown = [row for row in own if row[y] is not None]
            places = [row[x] for row in shown]
            axes.plot(
                places, [row[y] for row in shown], **{**_LOOKS[line], **_THIN, **(look or {})}
            )


def _legend(figure: Figure, rows: Sequence[Point], look: style.Look | None = None) -> None:
    shown = {_line(row) for row in rows}
    handles = [
        Line2D([], [], label=_title(*line), **{**found, **_THIN, **(look or {})})
        for line, found in _LOOKS.items()
        if line in shown
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=7)


def _title(protection: str, attack: str) -> str:
    title, how = protection_title(protection), siblings.ATTACKS[attack]
    return f"{title}, {how}" if how else title


_WHERE = ("suite", "backbone", "protected_task")

FIGURES = {
    2: SiblingFigure(
        (*_WHERE, "protection", "attack", "pair", "layer", "distance"), distance_rows, figure2
    ),
    3: SiblingFigure(
        (*_WHERE, "protection", "attack", "coefficient", "partners", "accuracy"),
        curve_rows,
        figure3,
    ),
    4: SiblingFigure(
        (
            *(*_WHERE, "partner", "protection", "attack", "coefficient", "loss"),
            *("protected_loss", "partner_loss", "protected_accuracy", "partner_accuracy"),
        ),
        path_rows,
        figure4,
    ),
}
"""By the number that the paper gives it."""
