"""Theorems A.2 and A.4 as tables, with a statement of how often their premises hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trap2.report.names import protection_title
from trap2.report.shapes import Point
from trap2.report.tables.rows import facts_of
from trap2.updates.records import CurvatureRecord

SCALING = ("s", "mu", "epsilon", "bound", "measured")


DEGRADATION = (
    "distance",
    "epsilon",
    "slope",
    "mu_hvp",
    "mu_hvp_error",
    "mu_profile",
    "bound",
    "measured",
)


_YES = {True: "yes", False: "no"}


def scaling_rows(records: Iterable[CurvatureRecord]) -> list[Point]:
    """Theorem A.2, a row an update and scale."""
    return [
        facts_of(record)
        | {"task": found["task"]}
        | _chosen(found, SCALING)
        | {"premise": _YES[found["premise"]], "guaranteed": _YES[found["bound"] > 0]}
        for record in records
        for found in record["updates"]
    ]


def degradation_rows(records: Iterable[CurvatureRecord]) -> list[Point]:
    """Theorem A.4, a row a pair and task."""
    return [
        facts_of(record)
        | _chosen(found, ("protected_task", "unprotected_task", "side"))
        | _chosen(found, DEGRADATION)
        | {"guaranteed": _YES[found["guaranteed"]]}
        for record in records
        for found in record["pairs"]
    ]


def _chosen(found: Mapping[str, object], keys: Iterable[str]) -> Point:
    return {key: found[key] for key in keys}


def statement(scaling: Sequence[Point], damage: Sequence[Point], images: int) -> str:
    """How often the premises hold and the bounds say something, a paragraph a theorem."""
    facts = scaling[0]
    lines = [
        f"Theorems A.2 and A.4 on the {facts['suite']} suite, {facts['backbone']}; losses in nats "
        f"on {images} test images a task.",
        "",
        "A.2, down-scaling. The theorem assumes that the loss is convex between s and 1 (mu >= 0, "
        "looked at on a grid); its bound is positive where the loss is guaranteed to grow.",
    ]
    for protection in dict.fromkeys(row["protection"] for row in scaling):
        lines += ["", f"  {protection_title(protection)}"]
        own = [row for row in scaling if row["protection"] == protection]
        for s in dict.fromkeys(row["s"] for row in own):
            at = [row for row in own if row["s"] == s]
            lines.append(
                f"    s = {s:.3f}: convex for {_count(at, 'premise')}, growth guaranteed for "
                f"{_count(at, 'guaranteed')}, measured for {_grown(at)} of {len(at)}"
            )
    lines += [
        "",
        "A.4, the average of two adapters. A growth of the loss is guaranteed where mu > 0 and the "
        "distance exceeds 4 epsilon / mu. mu comes from the losses at both ends (Taylor) and, as a "
        "check, from Hessian-vector products.",
    ]
    for protection in dict.fromkeys(row["protection"] for row in damage):
        for side in dict.fromkeys(row["side"] for row in damage):
            at = [r for r in damage if (r["protection"], r["side"]) == (protection, side)]
            if protection == "unprotected" and side != "protected":
                continue  # both adapters are unprotected: the same pairs again
            kinds = (_in_a_sentence(protection), "unprotected")
            what, other = kinds if side == "protected" else kinds[::-1]
            positive = sum(row["mu_profile"] > 0 for row in at)
            lines.append(
                f"    loss of the {what} task, other adapter {other}: "
                f"mu > 0 for {positive} of {len(at)}, growth guaranteed for "
                f"{_count(at, 'guaranteed')}, measured for {_grown(at)} of {len(at)}"
            )
    return "\n".join(lines) + "\n"


def _in_a_sentence(protection: str) -> str:
    return "unprotected" if protection == "unprotected" else protection_title(protection)


def _count(rows: Sequence[Point], column: str) -> str:
    return f"{sum(row[column] == 'yes' for row in rows)} of {len(rows)}"


def _grown(rows: Sequence[Point]) -> int:
    return sum(row["measured"] > 0 for row in rows)
