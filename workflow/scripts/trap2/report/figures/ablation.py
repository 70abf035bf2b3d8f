"""Ablations: what one setting does to standalone and to merged accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from trap2.report.figures import style
from trap2.report.names import task_title
from trap2.report.shapes import Point
from trap2.report.tables.rows import mean, merge_average
from trap2.suites.ablations import SETTINGS
from trap2.updates.records import AblationRecord

LINES: dict[str, style.Look] = {
    "standalone": {"color": "#0072B2", "linestyle": "-", "marker": "o", "label": "Used alone"},
    "merged": {"color": "#D55E00", "linestyle": "--", "marker": "X", "label": "Merged, all tasks"},
    "merged_protected": {
        "color": "#009E73",
        "linestyle": "-.",
        "marker": "s",
        "label": "Merged, protected task",
    },
}


REFERENCES = {"standalone": "unprotected_standalone", "merged": "unprotected_merged"}


def ablation_rows(record: AblationRecord) -> list[Point]:
    """A row a value and task: standalone, merged (mean over tasks) and merged on the task itself.

    The merge is task arithmetic with the other tasks' unprotected adapters, its coefficient
    searched on validation; accuracies in percent on the test split.
    """
    plain = record["unprotected"]
    return [
        {"suite": record["suite"], "backbone": record["backbone"], "sweep": record["setting"]}
        | {"value": record["labels"][found["value"]], "task": found["task"]}
        | {"standalone": found["standalone"], "unprotected_standalone": found["unprotected"]}
        | {"merged": merge_average(found["cell"]), "unprotected_merged": merge_average(plain)}
        | {"merged_protected": found["cell"]["test"][found["task"]]["accuracy"]}
        | {"unprotected_merged_protected": plain["test"][found["task"]]["accuracy"]}
        | {"coefficient": found["cell"]["coefficient"]}
        for found in record["variants"]
    ]


def ablation_figure(rows: Sequence[Point], about: str) -> Figure:
    """Accuracy over the values of one setting; lines are means over the swept tasks.

    Args:
        rows: :func:`ablation_rows`.
        about: suite and backbone, for the caption.
    """
    values = list(dict.fromkeys(row["value"] for row in rows))
    figure, (axes,) = style.panels(1, 1, max(5.0, 0.9 * len(values)), 3.1)
    places = range(len(values))
    for column, line in LINES.items():
        by_value = [[row[column] for row in rows if row["value"] == value] for value in values]
        axes.plot(places, [mean(each) for each in by_value], **line)
        for place, each in zip(places, by_value, strict=True):
            axes.plot([place] * len(each), each, "_", color=line["color"], markersize=7, alpha=0.6)
    for column, reference in REFERENCES.items():
        level = mean(row[reference] for row in rows)
        axes.axhline(level, color=LINES[column]["color"], linewidth=1, linestyle=":")
    axes.set_xticks(places, values)
    axes.set_xlabel(SETTINGS[rows[0]["sweep"]])
    style.percent_axis(axes)
    figure.legend(loc="outside upper center", ncols=3)
    tasks = ", ".join(dict.fromkeys(task_title(row["task"]) for row in rows))
    style.caption(
        figure,
        f"{about}. Protected: {tasks}, one at a time (dashes), and their mean. Dotted: the "
        "unprotected adapter alone and the unprotected merge.",
    )
    return figure
