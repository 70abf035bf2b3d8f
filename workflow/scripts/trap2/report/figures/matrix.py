"""A matrix of many rows by protections, for print at column width and in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from trap2.report.figures import style
from trap2.report.names import backbone_title, protection_title
from trap2.report.shapes import Row

RAMP: Colormap = plt.get_cmap("Blues")
"""From white to dark blue, monotonous in grey: darker is worse for whoever protects."""

_COLUMN_WIDTH, _PAGE_WIDTH = 3.4, 6.9
_FITTING = 9
"""Columns that fit a column of print."""

_WIDTH = 0.24
_HEIGHT = 0.128
_LABELS, _NUMBERS = 6.0, 5.6
_GAP = 0.5
_LEAST, _MOST = -99, 999
_HATCHED: style.Look = {"facecolor": "white", "edgecolor": "#A8A8A8", "hatch": "//////"}
_PRINTED = {"lora": "adapters", "full": "checkpoints"}

Line = tuple[str, str]
"""A row's group and its title, or a column's block and its title."""


@dataclass(frozen=True)
class Mark:
    """A cell.

    Attributes:
        value: the number that stands in it; None where there is none.
        shade: from 0, white, to 1, dark; None for a hatched cell.
        bold: whether the number stands out.
    """

    value: float | None
    shade: float | None
    bold: bool = False


def column_of(row: Row) -> Line:
    """The column of a table's row: its backbone and release format, and its protection."""
    block = f"{backbone_title(row['backbone'])}, {_PRINTED[row['release']]}"
    return block, protection_title(row["protection"])


def draw(
    rows: Sequence[Line],
    columns: Sequence[Line],
    marks: Mapping[tuple[Line, Line], Mark],
    legend: Sequence[Patch],
    caption: str,
) -> Figure:
    """The figure, as high as its rows, titles and caption need.

    Args:
        rows: from above, those of a group together; a group's name stands above it.
        columns: from the left, those of a block together; a block's name stands below it.
        marks: by row and column; a missing one is drawn as a dash.
        legend: what the shades mean.
        caption: what the numbers are, in small print below.
    """
    places, heights = _places(columns), _heights(rows)
    wide = max(0, len(columns) - _FITTING)
    width = min(_PAGE_WIDTH, _COLUMN_WIDTH + _WIDTH * wide)
    depth = max(heights.values()) + 1
    titles = max(len(title) for _, title in columns)
    print_lines = sum(len(line) * 0.055 // width + 1 for line in caption.splitlines())
    above, below = 0.5 + 0.048 * titles, 0.45 + 0.125 * print_lines
    figure, (axes,) = style.panels(1, 1, width, _HEIGHT * depth + above + below)
    for row in rows:
        for column in columns:
            _cell(axes, places[column], heights[row], marks.get((row, column)))
    axes.set_xlim(-0.5, max(places.values()) + 0.5)
    axes.set_ylim(depth - 0.4, -0.6)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=1.5, labeltop=True, labelbottom=False)
    names = [title for _, title in columns]
    axes.set_xticks(list(places.values()), names, rotation=90, fontsize=_LABELS)
    _label_rows(axes, heights)
    _label_blocks(axes, places, depth)
    figure.legend(
        handles=legend,
        loc="outside upper center",
        ncols=len(legend) if width > _COLUMN_WIDTH else 2,
        fontsize=_LABELS,
        handlelength=1.6,
        columnspacing=1.2,
    )
    style.caption(figure, caption)
    return figure


def shade(share: float, label: str) -> Patch:
    """What a shade means, for the legend."""
    return Patch(facecolor=RAMP(share), edgecolor="#777777", linewidth=0.5, label=label)


def hatching(label: str) -> Patch:
    """What hatching means, for the legend."""
    return Patch(**_HATCHED, linewidth=0.5, label=label)


def _places(columns: Sequence[Line]) -> dict[Line, float]:
    found: dict[Line, float] = {}
    for number, column in enumerate(columns):
        earlier = {block for block, _ in columns[: number + 1]}
        found[column] = number + _GAP * (len(earlier) - 1)
    return found


def _heights(rows: Sequence[Line]) -> dict[Line, int]:
    """A line for each row, and one for the name of each group that has one."""
    found: dict[Line, int] = {}
    line, above = 0, ""
    for row in rows:
        line += row[0] not in {above, ""}
        found[row], above = line, row[0]
        line += 1
    return found


def _cell(axes: Axes, x: float, y: float, mark: Mark | None) -> None:
    if mark is None:
        axes.text(x, y, "–", ha="center", va="center", color="#BBBBBB", fontsize=_NUMBERS)
        return
    box, hatched = (x - 0.5, y - 0.5), mark.shade is None
    look: style.Look = {"facecolor": RAMP(mark.shade or 0.0), "edgecolor": "white"}
    axes.add_patch(Rectangle(box, 1, 1, **(_HATCHED if hatched else look), linewidth=0.4))
    # Rounded before it is printed, or else -0.4 were "-0".
    value = "·" if mark.value is None else f"{round(min(_MOST, max(_LEAST, mark.value)))}"
    axes.text(
        *(x, y, value.replace("-", "−")),
        ha="center",
        va="center_baseline",
        fontsize=_NUMBERS,
        fontweight="bold" if mark.bold else "normal",
        color="white" if (mark.shade or 0) > 0.6 else "black",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4} if hatched else None,
    )


def _label_rows(axes: Axes, heights: Mapping[Line, int]) -> None:
    lines = {height: title for (_, title), height in heights.items()}
    groups: dict[int, str] = {}
    for (name, _), height in heights.items():
        if name and name not in groups.values():
            groups[height - 1] = name
    axes.set_yticks([*lines, *groups], [*lines.values(), *groups.values()], fontsize=_LABELS)
    for label in axes.get_yticklabels()[len(lines) :]:
        label.set_fontweight("bold")


def _label_blocks(axes: Axes, places: Mapping[Line, float], depth: float) -> None:
    for block in dict.fromkeys(name for name, _ in places):
        own = [place for (name, _), place in places.items() if name == block]
        axes.text(
            *((own[0] + own[-1]) / 2, depth - 0.3, block.replace(", ", "\n")),
            ha="center",
            va="top",
            fontsize=_LABELS,
        )
