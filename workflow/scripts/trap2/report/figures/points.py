"""The numbers behind the figures, a row a point, as their CSV files hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from trap2.evaluation.scale_grid import averaging_counts
from trap2.report.shapes import Point
from trap2.report.tables.rows import mean
from trap2.updates.records import (
    CellRecord,
    Circumstances,
    MergeRecord,
    PairRecord,
    PairsRecord,
    ScalesRecord,
)

Side = Literal["protected", "unprotected"]


SIDES: tuple[Side, Side] = ("protected", "unprotected")


OWN_END: dict[Side, float] = {"protected": 0.0, "unprotected": 1.0}
"""Where on a path (β) each side's own adapter is."""


COM = "CoM"


def _facts(record: Circumstances) -> Point:
    return {"suite": record["suite"], "backbone": record["backbone"]}


def scale_rows(records: Iterable[ScalesRecord], tasks: Iterable[str]) -> list[Point]:
    """Figures 2 and 7: every scale of every task's update.

    ``delta_loss`` is the test loss at s minus the one at s = 1, in nats.
    """
    rows = []
    for record in records:
        for task in tasks:
            profile = record["sweeps"][task]
            nominal = next(point["loss"] for point in profile if point["s"] == 1)
            for point in profile:
                rows.append(
                    _facts(record)
                    | {"task": task, "protection": record["protection"]}
                    | {key: point[key] for key in ("s", "loss", "accuracy")}
                    | {"delta_loss": point["loss"] - nominal}
                )
    return rows


def averaging_rows(
    records: Iterable[ScalesRecord], tasks: Sequence[str], zero_shot: Mapping[str, float]
) -> list[Point]:
    """Figure 5: accuracy at s = 1/N, with the base model's beside it."""
    rows = []
    for record in records:
        for task in tasks:
            at = {point["s"]: point["accuracy"] for point in record["sweeps"][task]}
            for count in averaging_counts(len(tasks)):
                rows.append(
                    _facts(record)
                    | {"task": task, "protection": record["protection"], "N": count}
                    | {"s": 1 / count, "accuracy": at[1 / count], "zero_shot": zero_shot[task]}
                )
    return rows


def path_rows(record: PairsRecord) -> list[Point]:
    """Figures 3 and 8: the points of every path between two adapters.

    ``…_delta_loss`` is a task's test loss minus that of its own adapter, in nats.
    """
    rows = []
    for pair in record["pairs"]:
        own = {
            side: next(p["score"][side]["loss"] for p in pair["path"] if p["beta"] == end)
            for side, end in OWN_END.items()
        }
        for point in pair["path"]:
            row = _pair_facts(record, pair) | {"beta": point["beta"]}
            for side in SIDES:
                score = point["score"][side]
                row[f"{side}_accuracy"] = score["accuracy"]
                row[f"{side}_loss"] = score["loss"]
                row[f"{side}_delta_loss"] = score["loss"] - own[side]
            rows.append(row)
    return rows


def pair_rows(record: PairsRecord) -> list[Point]:
    """Figure 4: every pair merged at one scale, with each task's accuracy before the merge."""
    rows = []
    for pair in record["pairs"]:
        row = _pair_facts(record, pair) | {"scale": record["scale"]}
        merged = {side: pair["merged"][side]["accuracy"] for side in SIDES}
        row |= {f"{side}_accuracy": merged[side] for side in SIDES}
        row["average"] = mean(merged.values())
        for side, end in OWN_END.items():
            own = next(p for p in pair["path"] if p["beta"] == end)
            row[f"{side}_alone"] = own["score"][side]["accuracy"]
        rows.append(row | {"distance": pair["distance"]})
    return rows


def _pair_facts(record: PairsRecord, pair: PairRecord) -> Point:
    return _facts(record) | {
        "protection": record["protection"],
        "protected_task": pair["protected_task"],
        "unprotected_task": pair["unprotected_task"],
    }


def coefficient_rows(merges: Iterable[MergeRecord], cells: Iterable[str]) -> list[Point]:
    """Figure 6: the weights that Chain of Merges gives the tasks, means over the layers.

    ``normalised`` divides by the weight of the same task in the unprotected merge.

    Args:
        merges: the data merges of one backbone, the unprotected one among them.
        cells: their cells, in the figure's order; those of other mergers are left out.
    """
    records, methods = list(merges), [cell for cell in cells if cell.startswith(COM)]
    plain = next(record for record in records if record["protection"] == "unprotected")
    rows = []
    for record in records:
        if record is plain:
            continue
        for method in methods:
            found, base = _shares(record["cells"][method]), _shares(plain["cells"][method])
            for task, share in found.items():
                rows.append(
                    _facts(record)
                    | {"protection": record["protection"], "merge_method": method}
                    | {"protected_task": record["protected_task"], "task": task}
                    | {"coefficient": share, "unprotected_coefficient": base[task]}
                    | {"normalised": share / base[task]}
                )
    return rows


def _shares(cell: CellRecord) -> dict[str, float]:
    layers = list(cell["coefficients"].values())
    return {task: mean(layer[task] for layer in layers) for task in layers[0]}


def rounded(rows: Iterable[Point]) -> list[Point]:
    """Rows for a CSV file: floats with six significant digits."""
    return [
        {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
    ]
