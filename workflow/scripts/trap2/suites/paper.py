"""The paper's tables and figures by its numbers: what each shows and what it is made from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """What a table of the paper shows.

    Attributes:
        kind: its layout, a key of :data:`KINDS`.
        release_format: ``lora`` or ``full``.
        text: what it shows, for the report.
        family: the backbones that it shows, ``vit`` or ``convnext``; all if empty.
        position: which of them, from 0; all if None.
        brief: the same in few words, for the summary of a plain run.
    """

    kind: str
    release_format: str
    text: str
    family: str = ""
    position: int | None = None
    brief: str = ""

    @property
    def with_data(self) -> bool:
        """Whether it shows merges that saw data."""
        return self.kind in {"data", "complete-data"}


@dataclass(frozen=True)
class Shown:
    """What a table or figure is made from.

    Attributes:
        needs: kinds of records: ``updates``, ``zero_shot``, ``merges``, ``pairs`` or ``sweeps``.
        settings: what it must know of the suite: ``task`` and ``pair`` of the figures, ``tasks``,
            ``columns`` of its merges, ``cells`` of merges with data.
    """

    needs: tuple[str, ...]
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure(Shown):
    """What a figure of the paper shows; ``report/figures/figureN.py`` draws it.

    Attributes:
        title: what it shows, in few words.
        caption: the same for the report, with how to read it.
        brief: for the summary of a plain run; figures without one are made on request.
    """

    title: str = ""
    caption: str = ""
    brief: str = ""


TABLES: dict[int, Table] = {
    1: Table(
        *("standalone", "lora", "Standalone accuracy of adapters, in percent."),
        brief="accuracy of each update used alone",
    ),
    2: Table(
        *("merging", "lora"),
        "Accuracy after merging adapters, in percent, mean over tasks and protected tasks; a "
        "column a method and space.",
        brief="accuracy after merging, every method and space",
    ),
    3: Table("standalone", "full", "Standalone accuracy of whole checkpoints, in percent."),
    4: Table("merging", "full", "Accuracy after merging whole checkpoints, in percent."),
    5: Table(
        *("data", "lora"),
        "Accuracy after merging with data, in percent; R: random samples, C: class-stratified "
        "ones.",
    ),
    6: Table(
        *("correlation", "lora"),
        "Correlation of two adapters' distance with the loss increase at their midpoint.",
    ),
    7: Table(
        *("complete", "lora", "Table 2 in full on the first ViT, a column a protected task."),
        *("vit", 0),
    ),
    8: Table(
        *("complete", "lora", "Table 2 in full on the second ViT, a column a protected task."),
        *("vit", 1),
    ),
    9: Table(
        *("complete", "lora", "Table 2 in full on the ConvNeXt, a column a protected task."),
        *("convnext", 0),
    ),
    10: Table("complete", "full", "Table 4 in full, a column a protected task.", "", 0),
    11: Table("complete-data", "lora", "Table 5 in full, a column a protected task."),
}


KINDS: dict[str, Shown] = {
    "standalone": Shown(("updates", "zero_shot"), ("tasks",)),
    "merging": Shown(("merges",), ("columns",)),
    "data": Shown(("merges",), ("columns",)),
    "complete": Shown(("merges",), ("tasks", "columns")),
    "complete-data": Shown(("merges",), ("tasks", "columns")),
    "correlation": Shown(("pairs",)),
}
"""The layouts of the tables."""


FIGURES: dict[int, Figure] = {
    2: Figure(
        *(("sweeps", "zero_shot"), ("task",)),
        title="loss and accuracy over the scale",
        caption="Loss and accuracy of one task over the scale s of its update. The star is the "
        "authorised scale s = 1; TRAP² falls off on both sides of it.",
        brief="loss and accuracy over the scale of one update",
    ),
    3: Figure(
        *(("pairs", "zero_shot"), ("pair",)),
        title="between two adapters",
        caption="Accuracy on two tasks along the path from a TRAP² adapter (β = 0) to an "
        "unprotected one (β = 1); the grey line is their average.",
    ),
    4: Figure(
        *(("pairs",), ("tasks",)),
        title="pairwise merges",
        caption="Every pair of a TRAP² adapter (row) and an unprotected one (column), merged at "
        "scale 0.8: accuracy on the protected task, on the other one, and the mean. Darker is "
        "lower.",
    ),
    5: Figure(
        *(("sweeps", "zero_shot"), ("tasks",)),
        title="the uniform-averaging proxy",
        caption="Each adapter scaled by 1/N, as averaging N adapters would. Flat is robust; TRAP² "
        "drops at N = 2.",
        brief="what averaging N updates does to each task",
    ),
    6: Figure(
        *(("merges",), ("tasks", "cells")),
        title="weights of Chain of Merges",
        caption="Weights that Chain of Merges gives a TRAP² adapter, divided by those of the "
        "unprotected adapter in its place. At 1 and above, the merger does not turn away from it.",
    ),
    7: Figure(
        *(("sweeps",), ("tasks",)),
        title="scaling down",
        caption="Test loss at scale s minus that at s = 1. Above the line, scaling down costs.",
    ),
    8: Figure(
        *(("pairs",), ("tasks",)),
        title="paths between adapters",
        caption="Loss of both tasks along the path between every pair of adapters: TRAP² of the "
        "row at β = 0, unprotected of the column at β = 1. The dot is their average.",
    ),
}


def pattern() -> str:
    """A pattern of the tables' numbers."""
    return "|".join(map(str, TABLES))
