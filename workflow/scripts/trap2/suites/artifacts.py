"""Which backbone and release format each table and figure shows, and why one cannot be made.

The paper's numbering holds for every suite.  Where a suite lacks what a table needs, the table is
made all the same and says why it is empty; a figure has nothing to draw and ends the run.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trap2.merging.catalogue import data_column
from trap2.models.families import family_of

Suite = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """What a table of the paper shows.

    Attributes:
        kind: its layout: ``standalone``, ``merging``, ``data``, ``correlation``, ``complete`` or
            ``complete-data``.
        release_format: ``lora`` or ``full``.
        family: the backbones that it shows, ``vit`` or ``convnext``; all if empty.
        position: which of them, from 0; all if None.
    """

    kind: str
    release_format: str
    family: str = ""
    position: int | None = None


TABLES: dict[int, Table] = {
    1: Table("standalone", "lora"),
    2: Table("merging", "lora"),
    3: Table("standalone", "full"),
    4: Table("merging", "full"),
    5: Table("data", "lora"),
    6: Table("correlation", "lora"),
    7: Table("complete", "lora", "vit", 0),
    8: Table("complete", "lora", "vit", 1),
    9: Table("complete", "lora", "convnext", 0),
    10: Table("complete", "full", "", 0),
    11: Table("complete-data", "lora"),
}


FIGURES = (2, 3, 4, 5, 6, 7, 8)


NAMES = (
    *(f"table{n}.{kind}" for n in TABLES for kind in ("csv", "tex")),
    *(f"figure{n}.{kind}" for n in FIGURES for kind in ("csv", "pdf", "png")),
    *("cells.csv", "claims.csv", "comparison.csv", "comparison.md", "summary.txt"),
    *("theorem2.csv", "theorem4.csv", "theory.txt"),
    *("manifest.json", "manifest_all.json", "reproduction.md"),
)
"""The files of ``results/`` that can be asked for by name, ablations aside."""


_SHOWN = {
    "lora": "adapters (release_formats.lora)",
    "full": "whole checkpoints (release_formats.full)",
}


_FAMILIES = {"": "backbone", "vit": "ViT backbone", "convnext": "ConvNeXt backbone"}


_ORDINALS = ("first", "second")


def unknown_name(name: str) -> str | None:
    """What is wrong with the name of a file of ``results/``; None where it can be made."""
    if name in NAMES or name.startswith("ablation_"):
        return None
    close = difflib.get_close_matches(name, NAMES, n=1)
    hint = f" Did you mean results/{close[0]}?" if close else ""
    return f"results/{name}: there is no such artifact; docs/artifacts.md lists them.{hint}"


def table_backbones(suite: Suite, number: int) -> list[str]:
    """The backbones of a table, in the suite's order; none if the table does not apply."""
    table = TABLES[number]
    release_format = suite["release_formats"].get(table.release_format)
    if release_format is None:
        return []
    found = [name for name in release_format["backbones"] if _fits(suite, name, table.family)]
    return found if table.position is None else found[table.position :][:1]


def table_not_applicable(name: str, suite: Suite, number: int) -> str | None:
    """Why a suite has no such table; None where it has one.

    Args:
        name: the suite's.
        suite: its settings.
        number: the paper's number of the table, a key of :data:`TABLES`.
    """
    table = TABLES[number]
    if table.release_format not in suite["release_formats"]:
        return (
            f"Table {number} shows {_SHOWN[table.release_format]}, and the suite '{name}' trains "
            "none"
        )
    if not table_backbones(suite, number):
        which = _ORDINALS[table.position or 0]
        return (
            f"Table {number} shows the {which} {_FAMILIES[table.family]} of release_formats."
            f"{table.release_format}, and the suite '{name}' has none"
        )
    if table.kind == "correlation":
        return figure_not_applicable(name, suite)
    return None


def unreleased(name: str, number: int) -> str:
    """Why a table cannot be made from released checkpoints that lack its release format."""
    return (
        f"Table {number} shows {_SHOWN[TABLES[number].release_format]}, and the released "
        f"checkpoints of '{name}' have none; set checkpoints: train to make them"
    )


def figure_not_applicable(name: str, suite: Suite) -> str | None:
    """Why a suite has no figures; None where it has them.

    All figures show TRAP² adapters of one backbone.
    """
    backbone = suite["figures"]["backbone"]
    if "lora" not in suite["release_formats"]:
        return (
            f"the figures show adapters (release_formats.lora), and the suite '{name}' trains none"
        )
    if backbone not in suite["release_formats"]["lora"]["backbones"]:
        return (
            f"the figures show adapters on figures.backbone = {backbone}, and the suite '{name}' "
            "trains none there; add it to release_formats.lora.backbones or name another"
        )
    if "trap2" not in suite["protections"]:
        return f"the figures show TRAP², which is none of the protections of '{name}'"
    return None


def data_columns(suite: Suite) -> list[str]:
    """The columns of Table 5."""
    data = suite["merging"]["data"]
    return [data_column(m, sampling) for m in data["methods"] for sampling in data["samplings"]]


def figure_pair(suite: Suite) -> tuple[str, str]:
    """The two tasks of Figure 3: the protected one (figures.task) and the first other one."""
    protected = suite["figures"]["task"]
    return protected, next(task for task in suite["tasks"] if task != protected)


def _fits(suite: Suite, backbone: str, family: str) -> bool:
    return not family or family_of(suite["backbones"][backbone]["architecture"]) == family
