"""Table 6: how far two adapters are apart, and what their midpoint costs (Appendix C.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from trap2.report.shapes import TextRow
from trap2.report.tables.rows import facts_of
from trap2.updates.records import PairRecord, PairsRecord

STATISTICS = {
    "V_norm": "V_norm",
    "dL_mid_mean": "dL_mid.mean",
    "dL_mid_max": "dL_mid.max",
}
"""Name in records and tables to name in the paper's Table 6, in its order."""


def midpoint_increases(pair: PairRecord) -> tuple[float, float]:
    """Test loss at the midpoint minus the loss of the task's own adapter, in nats.

    Returns:
        For the protected task (β = 0 is its adapter) and the unprotected one (β = 1).
    """
    at = {point["beta"]: point["score"] for point in pair["path"]}
    return (
        at[0.5]["protected"]["loss"] - at[0.0]["protected"]["loss"],
        at[0.5]["unprotected"]["loss"] - at[1.0]["unprotected"]["loss"],
    )


def pair_statistics(pairs: Iterable[PairRecord]) -> dict[str, list[float]]:
    """Each of :data:`STATISTICS` over the ordered pairs.

    The midpoint's increase is summarised over the two tasks of the pair, by mean and maximum.
    """
    found: dict[str, list[float]] = {name: [] for name in STATISTICS}
    for pair in pairs:
        increases = midpoint_increases(pair)
        found["V_norm"].append(pair["distance"])
        found["dL_mid_mean"].append(sum(increases) / 2)
        found["dL_mid_max"].append(max(increases))
    return found


def pearson(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's correlation, in [-1, 1]; NaN if one of the two does not vary."""
    a, b = (np.asarray(v, dtype=np.float64) - np.mean(v) for v in (x, y))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values at their mean rank."""
    return pearson(_ranks(x), _ranks(y))


def _ranks(values: Sequence[float]) -> list[float]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: list[float] = ((2 * last - counts + 1) / 2)[inverse].tolist()
    return found


def correlation_rows(record: PairsRecord) -> list[TextRow]:
    """The rows of Table 6 from one pairs file: two symmetric matrices."""
    statistics = pair_statistics(record["pairs"])
    facts = facts_of(record)
    return [
        facts
        | {"correlation": name, "n_pairs": str(len(record["pairs"])), "statistic": row}
        | {column: f"{function(statistics[row], statistics[column]):.3f}" for column in STATISTICS}
        for name, function in (("spearman", spearman), ("pearson", pearson))
        for row in STATISTICS
    ]
