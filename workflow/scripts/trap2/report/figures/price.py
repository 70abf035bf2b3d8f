"""The price: what an attack with a budget acquires and keeps, over images and over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trap2.attacks.measure import ACQUIRED_ENOUGH, KEPT_ENOUGH
from trap2.report.figures import style
from trap2.report.names import backbone_title, protection_title
from trap2.report.shapes import Row, Rows
from trap2.report.tables.columns import STD
from trap2.report.tables.rows import group

AXES = {"images": "Images a task", "steps": "Steps"}

_THIN = {"markersize": 3.5, "linewidth": 1.2}

_LOWEST = -110.0
"""Where panels of what is acquired end: a merge far below the base model is no nearer to it."""

_SHARES = {"acquired": ("Acquired (%)", ACQUIRED_ENOUGH), "kept": ("Kept (%)", KEPT_ENOUGH)}

_FURTHER: tuple[style.Look, ...] = (
    {"color": "#009E73", "linestyle": "-.", "marker": "s"},
    {"color": "#CC79A7", "linestyle": ":", "marker": "^"},
    {"color": "#E69F00", "linestyle": (0, (6, 2)), "marker": "D"},
    {"color": "#56B4E9", "linestyle": (0, (3, 1, 1, 1)), "marker": "v"},
    {"color": "#000000", "linestyle": (0, (1, 1)), "marker": "P"},
    {"color": "#777777", "linestyle": (0, (8, 2, 1, 2, 1, 2)), "marker": "*"},
    {"color": "#5B3A8C", "linestyle": (0, (2, 3)), "marker": "<"},
    {"color": "#8C510A", "linestyle": (0, (10, 3)), "marker": ">"},
)


def looks(protections: Sequence[str]) -> dict[str, style.Look]:
    """A line for each protection, told apart by style and marker without colour."""
    others = [name for name in protections if name not in style.CURVES]
    return {
        name: {**(style.CURVES.get(name) or _FURTHER[others.index(name) % len(_FURTHER)])}
        | {"label": protection_title(name)}
        for name in protections
    }


def price_figure(rows: Rows, about: str) -> Figure:
    """Acquired and kept of every attack with a budget; a row an attack, a pair of panels an axis.

    Args:
        rows: those of ``price.csv``.
        about: suite and seed, for the caption.
    """
    if not rows:
        figure, (axes,) = style.panels(1, 1, 3.4, 0.6)
        axes.set_axis_off()
        style.caption(figure, f"{about}. No attack was tried with more than one budget.")
        return figure
    curves = looks(list(dict.fromkeys(row["protection"] for row in rows)))
    attacks = group(rows, itemgetter("backbone", "release", "attack"))
    axes_of = [name for name in AXES if any(_curve(own, name) for own in attacks.values())]
    columns = [(name, share) for name in axes_of for share in _SHARES]
    figure, panels = style.panels(len(attacks), len(columns), 6.9 / max(2, len(columns)), 1.55)
    for place, axes in enumerate(panels):
        own = list(attacks.values())[place // len(columns)]
        axis, share = columns[place % len(columns)]
        if not _curve(own, axis):
            axes.set_axis_off()
            continue
        _panel(axes, own, axis, share, curves)
        if place % len(columns) == 0:
            several = len({(row["backbone"], row["release"]) for row in rows}) > 1
            title = own[0]["title"] + _where(own[0]) * several
            axes.set_title(title, loc="left", fontsize=8)
    handles = [Line2D([], [], **{**curve, **_THIN}) for curve in curves.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, fontsize=7)
    style.caption(
        figure,
        f"{about}. Acquired: percent of the way from zero-shot to the unprotected merge on the "
        "protected tasks, of all that there is to gain on them; kept: percent of that merge's "
        f"accuracy on the others. Thin lines: {ACQUIRED_ENOUGH:g} % and {KEPT_ENOUGH:g} %. Over "
        "images with the most steps that were tried, over steps with the most images. Bars: "
        f"deviation over seeds. Below −{-_LOWEST:g} % nothing is drawn.",
    )
    return figure


def _where(row: Row) -> str:
    what = "adapters" if row["release"] == "lora" else "checkpoints"
    return f" ({backbone_title(row['backbone'])}, {what})"


def _panel(axes: Axes, rows: Rows, axis: str, share: str, curves: Mapping[str, style.Look]) -> None:
    title, enough = _SHARES[share]
    places: set[int] = set()
    for protection, own in group(rows, itemgetter("protection")).items():
        points = [row for row in _curve(own, axis) if row[share]]
        x = [int(row[axis]) for row in points]
        places |= set(x)
        axes.errorbar(
            x,
            [float(row[share]) for row in points],
            [float(row[share + STD] or 0) for row in points],
            elinewidth=0.7,
            **{**curves[protection], **_THIN},
        )
    axes.axhline(enough, **style.NOMINAL)
    axes.set_ylim(bottom=max(_LOWEST, axes.get_ylim()[0]))
    if places:
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(places), [f"{place}" for place in sorted(places)], fontsize=6.5)
        axes.set_xticks([], minor=True)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel(AXES[axis], fontsize=7.5)
    axes.set_ylabel(title, fontsize=7.5)


def _curve(rows: Rows, axis: str) -> list[Row]:
    """The points over one axis, with the most of the other one; none where the axis has one."""
    other = next(name for name in AXES if name != axis)
    at = group((row for row in rows if row[axis]), lambda row: (row["protection"], row[axis]))
    best = [max(points, key=lambda row: int(row[other] or 0)) for points in at.values()]
    if len({row[axis] for row in best}) < 2:
        return []
    most = max(int(row[other] or 0) for row in best)
    full = [row for row in best if int(row[other] or 0) == most]
    shown = full if len({row[axis] for row in full}) > 1 else best
    return sorted(shown, key=lambda row: int(row[axis]))
