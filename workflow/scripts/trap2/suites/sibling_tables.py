"""The tables and figures of the sibling papers: which backbone and method each shows.

They are numbered as in their papers: Merge-Lock's Tables 1 to 4 and Figures 2 to 4 (its Table 5 is
of a language model), MergeGuard's Tables 1 to 5.  The anchor-guided attack's is laid out here.
"""

from __future__ import annotations

from dataclasses import dataclass

MERGELOCK, MERGEGUARD, ANCHOR = "mergelock", "mergeguard", "aga"
"""The papers, as the files of their tables begin."""


@dataclass(frozen=True)
class SiblingTable:
    """A table of a sibling paper.

    Attributes:
        paper: :data:`MERGELOCK`, :data:`MERGEGUARD` or :data:`ANCHOR`.
        number: the paper's; 0 where it is ours.
        first: whether it shows the suite's first backbone of the protocols; else the last one.
        label: what the report calls it.
        text: what it shows, for the report.
        method: the merging method of a table of pairs.
    """

    paper: str
    number: int
    first: bool
    label: str
    text: str
    method: str = ""


_BESIDE = (
    " Beside a suite of the paper's tasks and backbone stand the published numbers, as printed."
)

_ALL = " All tasks' updates are merged, one of them protected; accuracy on the protected task."


def _pairs(number: int, method: str, *, first: bool) -> SiblingTable:
    where = "first" if first else "last"
    return SiblingTable(
        *(MERGELOCK, number, first, f"Merge-Lock, Table {number}"),
        f"Pairs of whole checkpoints merged by {method} on the {where} backbone, one of them "
        "protected: mean accuracy on the two tasks, a row a protected task, protection and attack, "
        "a column the other task." + _BESIDE,
        method,
    )


def _merges(number: int, text: str) -> SiblingTable:
    return SiblingTable(MERGEGUARD, number, False, f"MergeGuard, Table {number}", text + _BESIDE)


TABLES = {
    "mergelock_table1": _pairs(1, "TA", first=True),
    "mergelock_table2": _pairs(2, "TA", first=False),
    "mergelock_table3": _pairs(3, "TIES", first=True),
    "mergelock_table4": _pairs(4, "AdaMerging", first=True),
    "mergeguard_table1": _merges(
        1, "Accuracy of whole checkpoints used alone, before and after protection."
    ),
    "mergeguard_table2": _merges(2, "Protection against four merging methods." + _ALL),
    "mergeguard_table3": _merges(
        3, "MergeGuard beside PaRaMS and the others, alone and merged by TA." + _ALL
    ),
    "mergeguard_table4": _merges(4, "MergeGuard's stages alone and together." + _ALL),
    "mergeguard_table5": _merges(5, "Attacks on merges with a MergeGuard update." + _ALL),
    "aga_table": SiblingTable(
        *(ANCHOR, 0, True, "Anchor-guided attack"),
        "Each protection before and after the anchor-guided attack: alone, and merged by TA on the "
        "protected task, on the others and on all; mean over the protected tasks.",
    ),
}
"""By the stem of their files."""

FIGURES = {
    "mergelock_figure2": "How far each attention layer's projections lie from the pretrained ones, "
    "unprotected, protected and attacked.",
    "mergelock_figure3": "Accuracy of the pairs of one task with every other one over the "
    "coefficient of the merge.",
    "mergelock_figure4": "Loss of both tasks of a pair on the way from one update to the other, "
    "and their mean.",
}
"""What each figure of Merge-Lock's paper shows, by the stem of its files."""


def pattern(paper: str) -> str:
    """A pattern of the numbers of a paper's tables."""
    return "|".join(str(table.number) for table in TABLES.values() if table.paper == paper)
