"""The paper's tables by kind: columns and rows from the records behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from trap2.report.notes import add_notes
from trap2.report.shapes import TextRow
from trap2.report.tables import columns as names
from trap2.report.tables.correlations import STATISTICS, correlation_rows
from trap2.report.tables.rows import COMPLETE_COLUMNS, complete_rows, merging_rows, standalone_rows
from trap2.updates.records import MergeRecord, PairsRecord, UpdateRecord, ZeroShotRecord

Table = tuple[list[str], list[TextRow]]


def standalone(
    updates: Sequence[UpdateRecord], zero_shot: Sequence[ZeroShotRecord], tasks: Sequence[str]
) -> Table:
    """Tables 1 and 3: each update alone, with the base model as the reference."""
    release_format = updates[0]["release_format"]
    references = [
        cast(UpdateRecord, each | {"release_format": release_format}) for each in zero_shot
    ]
    rows = standalone_rows([*references, *updates], tasks)
    order = list(dict.fromkeys(update["backbone"] for update in updates))
    rows.sort(key=lambda row: order.index(row["backbone"]))
    columns = [*names.UPDATE, *tasks, "average"]
    return add_notes(columns, rows, [*zero_shot, *updates]), rows


def merging(merges: Sequence[MergeRecord], columns: Sequence[str]) -> Table:
    """Tables 2, 4 and 5: accuracy after merging, averaged over tasks and protected tasks."""
    rows = merging_rows(merges, columns)
    return add_notes([*names.UPDATE, *columns], rows, merges), rows


def complete(merges: Sequence[MergeRecord], tasks: Sequence[str], columns: Sequence[str]) -> Table:
    """Tables 7 to 11: accuracy after merging, one column a protected task."""
    rows = complete_rows(merges, tasks, columns)
    return add_notes([*COMPLETE_COLUMNS, *tasks, "average"], rows, merges), rows


def correlation(pairs: Sequence[PairsRecord]) -> Table:
    """Table 6: correlations of two adapters' distance with the loss at their midpoint."""
    rows = correlation_rows(pairs[0])
    return add_notes([*names.UPDATE, *names.STATISTIC, *STATISTICS], rows, pairs), rows


LAYOUTS: dict[str, Callable[..., Table]] = {
    "standalone": standalone,
    "merging": merging,
    "data": merging,
    "complete": complete,
    "complete-data": complete,
    "correlation": correlation,
}
"""By kind, as :data:`trap2.suites.paper.KINDS` names what each is given."""
