"""The page of an audit: Markdown for people, and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trap2.attacks import measure
from trap2.attacks.verdicts import BROKEN, KEPT, NOT_TRIED, VERDICTS, WEAKENED
from trap2.report.figures import style

Lines = Sequence[Mapping[str, Any]]

_OTHERS = "the attacker's own tasks, mean"

_FEWEST = 10
"""Rows for which a panel of bars has room, however few there are."""

SECTIONS = {
    "scale": (
        "At another scale",
        "W0 + s·ΔW. A merge applies an update at a scale of its own; a protected update should be "
        "broken away from s = 1.",
    ),
    "averaging": (
        "Averaged",
        "The mean of N updates, which scales each by 1/N. A protected update should be broken.",
    ),
    "handling": (
        "Ordinary use",
        "What people do to weights without merging them. An update should be kept; what breaks it "
        "belongs into its model card. int8 and int4 are the plain symmetric rule (rows; groups of "
        "32), worse than what libraries calibrate.",
    ),
    "attack": (
        "Attacks",
        "Somebody who wants this update in a merge with his own.",
    ),
}

LOOKS: dict[str, style.Look] = {
    KEPT: {"color": "#0072B2", "edgecolor": "black"},
    WEAKENED: {"color": "#9CC7E5", "edgecolor": "black", "hatch": "\\\\"},
    BROKEN: {"color": "#F0C9A8", "edgecolor": "black", "hatch": "///"},
    measure.ACQUIRED: {"color": "#D55E00", "edgecolor": "black", "hatch": "xxx"},
    measure.EXCLUDED: {"color": "#DDDDDD", "edgecolor": "black", "hatch": "..."},
    measure.DESTROYED: {"color": "#777777", "edgecolor": "black"},
    measure.UNDEFINED: {"color": "white", "edgecolor": "black"},
}
"""Verdicts by colour and by hatching, which is left in grey."""


def page(record: Mapping[str, Any], figure: str) -> str:
    """The page in Markdown.

    Args:
        record: as :func:`trap2.attacks.audit.audit` makes it, with ``adapter``, ``backbone`` and
            ``images``.
        figure: the figure's file, beside the page.
    """
    lines: Lines = record["lines"]
    parts = [
        f"# Audit of {record['adapter']}",
        _about(record),
        *_summary(lines),
        f"![Accuracy over the scale, after ordinary use, and under attack]({figure})",
        "## What the verdicts mean",
        "\n".join(f"- **{name}**: {meaning}." for name, meaning in VERDICTS.items()),
    ]
    for check, (title, about) in SECTIONS.items():
        found = [line for line in lines if line["check"] == check]
        if check == "attack":
            about += _reference(record)
        tried = [line for line in found if line["verdict"] != NOT_TRIED]
        parts += [f"## {title}", about]
        if tried:
            parts.append(_table(tried))
    return "\n\n".join([*parts, *_not_tried(lines)]) + "\n"


def _about(record: Mapping[str, Any]) -> str:
    partners = ", ".join(record["partners"])
    return (
        f"Task {record['task']} on {record['backbone']}, {record['images']} test images; "
        f"{f'merged with {partners}' if partners else 'no partners given'}. An image is "
        f"{100 / record['images']:.2g} percentage points, so small differences say nothing."
    )


def _summary(lines: Lines) -> list[str]:
    alone = next(line for line in lines if line["check"] == "alone")
    works = "It works alone" if alone["verdict"] == KEPT else "It does not work alone"
    said = [f"- {works}: {alone['text']}."]
    for check, what in (("scale", "other scales"), ("averaging", "averages")):
        kept = _titles(lines, check, KEPT, WEAKENED)
        count = len([line for line in lines if line["check"] == check])
        said.append(
            f"- Of {what} ({count} tried) it survives {'; '.join(kept)}."
            if kept
            else f"- Of {what} ({count} tried) it survives none."
        )
    broken = _titles(lines, "handling", WEAKENED, BROKEN)
    said.append(
        f"- Ordinary use that weakens or breaks it: {'; '.join(broken)}."
        if broken
        else "- No ordinary use that was tried weakens it."
    )
    skipped = _titles(lines, "attack", NOT_TRIED)
    more = f" {len(skipped)} more were not tried." if skipped else ""
    tried = [line for line in lines if line["check"] == "attack" and line["verdict"] != NOT_TRIED]
    acquired = _titles(lines, "attack", measure.ACQUIRED)
    if not tried:
        said.append("- No attack was tried, so nothing is known about attackers.")
    elif acquired:
        said.append(f"- Of {len(tried)} attacks these get it: {'; '.join(acquired)}.{more}")
    else:
        said.append(f"- No attack that was tried ({len(tried)}) gets it.{more}")
    return ["\n".join(said)]


def _titles(lines: Lines, check: str, *verdicts: str) -> list[str]:
    found = [line for line in lines if line["check"] == check and line["verdict"] in verdicts]
    return [line["title"] for line in found]


def _reference(record: Mapping[str, Any]) -> str:
    if not record["partners"]:
        return (
            " Without partners only attacks on the update itself are tried: each makes another "
            "update of it, which is scored at half, as in an average of two."
        )
    if not record["reference"]:
        return ""
    values = ", ".join(f"{task} {value:.1f} %" for task, value in record["reference"].items())
    against = (
        "the merge of the unprotected updates"
        if record["unprotected"]
        else "this update alone, and the merge of the others without it"
    )
    return f" Acquired and kept are shares of {against}: {values}."


def _table(lines: Lines) -> str:
    rows = [
        f"| {_cell(line['title'])} | {line['verdict']} | {_cell(line['text'])} |" for line in lines
    ]
    return "\n".join(["| what | verdict | accuracy |", "|---|---|---|", *rows])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _not_tried(lines: Lines) -> list[str]:
    skipped = [line for line in lines if line["verdict"] == NOT_TRIED]
    said = [
        f"- {_cell(line['title'])} ({line['name']}): {_cell(line['text'])}." for line in skipped
    ]
    said += [
        "- Other tasks and images than those given, more than one seed of an attack, other options "
        "than the defaults.",
        "- An attacker who trains on all the images of this task: he needs no update at all.",
        "- Attacks that nobody has thought of. That none was found is no proof.",
    ]
    return ["## What was not tried", "\n".join(said)]


def plot(record: Mapping[str, Any]) -> Figure:
    """The figure: accuracy over s, after ordinary use, and under attack where any was tried."""
    tried = {
        check: [
            line
            for line in record["lines"]
            if line["check"] == check and line["accuracy"] is not None
        ]
        for check in SECTIONS
    }
    longest = max(len(tried["handling"]), len(tried["attack"]), 12)
    columns = 3 if tried["attack"] else 2
    figure, axes = style.panels(1, columns, 4.2, 0.9 + 0.17 * longest)
    _over_scale(axes[0], record, tried["scale"])
    _bars(axes[1], record, tried["handling"], "After ordinary use")
    if tried["attack"]:
        _bars(axes[2], record, tried["attack"], "In the hands of an attacker")
        _others(axes[2], tried["attack"])
    _legend(figure, axes[1:])
    style.caption(
        figure,
        f"{record['adapter']}: {record['task']} on {record['backbone']}, {record['images']} test "
        "images. Dashed: alone, as released. Dotted: the base model without it.",
    )
    return figure


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all bars, above them, in the verdicts' order."""
    found: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found = dict(zip(labels, handles, strict=True)) | found
    names = [name for name in (*LOOKS, _OTHERS) if name in found]
    figure.legend(
        [found[name] for name in names], names, loc="outside upper right", ncols=len(names)
    )


def _over_scale(axes: Axes, record: Mapping[str, Any], lines: Lines) -> None:
    points = [(float(line["name"].removeprefix("s=")), line["accuracy"]) for line in lines]
    points = sorted([*points, (0.0, record["zero_shot"]), (1.0, record["alone"])])
    axes.plot(*zip(*points, strict=True), **style.marked(style.CURVES["trap2"] | {"label": None}))
    axes.plot(1, record["alone"], marker="*", markersize=13, color="#D55E00", mec="black", zorder=5)
    axes.axvline(1.0, **style.NOMINAL)
    axes.axhline(record["zero_shot"], **style.ZERO_SHOT)
    style.percent_axis(axes)
    axes.set_xlabel("Scale s of the update")
    axes.set_title("Over its scale")


def _bars(axes: Axes, record: Mapping[str, Any], lines: Lines, title: str) -> None:
    for verdict, look in LOOKS.items():
        places = [place for place, line in enumerate(lines) if line["verdict"] == verdict]
        if places:
            values = [lines[place]["accuracy"] for place in places]
            axes.barh(places, values, height=0.7, linewidth=0.5, label=verdict, **look)
    axes.axvline(record["alone"], color="black", linestyle="--", linewidth=0.8)
    axes.axvline(record["zero_shot"], **(style.ZERO_SHOT | {"label": None}))
    axes.set_yticks(range(len(lines)), [line["title"] for line in lines], fontsize=6.5)
    axes.set_ylim(max(len(lines), _FEWEST) - 0.4, -0.6)
    axes.set_xlim(0, 103)
    axes.set_xlabel(f"Test accuracy on {record['task']} (%)")
    axes.set_title(title)


def _others(axes: Axes, lines: Lines) -> None:
    """A mark for the mean of the attacker's own tasks."""
    places = [place for place, line in enumerate(lines) if line["others"] is not None]
    if places:
        values = [lines[place]["others"] for place in places]
        axes.plot(values, places, "D", color="black", mfc="white", markersize=4, label=_OTHERS)
