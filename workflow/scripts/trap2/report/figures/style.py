"""One look for all figures: legible in print and in grey, safe for colour-blind readers."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trap2.runtime import files

matplotlib.use("Agg")

Look = dict[str, Any]
"""Matplotlib's keywords for one kind of line or bar."""


# Okabe-Ito colours; line styles and markers tell the curves apart without them.
CURVES: dict[str, Look] = {
    "unprotected": {"color": "#0072B2", "linestyle": "-", "marker": "o", "label": "Unprotected"},
    "trap2": {"color": "#D55E00", "linestyle": "--", "marker": "X", "label": "TRAP²"},
}


# The two sides of a pair: the task of the TRAP² adapter and that of the unprotected one.
SIDE_CURVES = {"protected": CURVES["trap2"], "unprotected": CURVES["unprotected"]}


MIDPOINT = 0.5


ZERO_SHOT: Look = {
    "color": "#555555",
    "linestyle": ":",
    "linewidth": 1.2,
    "label": "Zero-shot",
}


BARS: tuple[Look, ...] = (
    {"color": "#D55E00", "edgecolor": "black", "linewidth": 0.6},
    {"color": "#F0C9A8", "edgecolor": "black", "linewidth": 0.6, "hatch": "///"},
)


# From dark blue to light yellow: monotonous in grey, darker where accuracy is lower.
ACCURACY_MAP = "cividis"


CAPTION_SIZE = 7


_CAPTION_CHARACTERS_PER_INCH = 20


NOMINAL: Look = {"color": "#999999", "linewidth": 0.8, "zorder": 0}

SETTINGS: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "figure.dpi": 100,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,
}


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of ``rows`` × ``columns`` panels, each ``width`` × ``height`` inches."""
    plt.rcParams.update(SETTINGS)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(columns * width, rows * height),
        squeeze=False,
        layout="constrained",
    )
    return figure, list(axes.flat)


def marked(curve: Look) -> Look:
    """A curve of many points: smaller markers."""
    return {**curve, "markersize": 3.5}


def percent_axis(axes: Axes) -> None:
    """An accuracy axis in percent, from 0 to 100, with room for markers."""
    axes.set_ylim(-3, 103)
    axes.set_yticks(range(0, 101, 25))
    axes.set_ylabel("Test accuracy (%)")


def grid_shape(tasks: int) -> tuple[int, int]:
    """Rows and columns of a figure with one panel a task."""
    columns = 5 if tasks == 5 else min(4, tasks)
    return -(-tasks // columns), columns


def caption(figure: Figure, text: str) -> None:
    """What the numbers are of, in small print below the panels, wrapped at the figure's width."""
    width = int(figure.get_figwidth() * _CAPTION_CHARACTERS_PER_INCH)
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    figure.supxlabel("\n".join(lines), fontsize=CAPTION_SIZE, color="#555555", x=0.01, ha="left")


def save(figure: Figure, paths: Sequence[str | Path]) -> None:
    """Write a figure in the formats that the paths' endings name, without dates inside."""
    for path in map(Path, paths):
        buffer = io.BytesIO()
        undated = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
        figure.savefig(buffer, format=path.suffix[1:], dpi=200, metadata=undated)
        files.write_bytes(path, buffer.getvalue())
    plt.close(figure)
