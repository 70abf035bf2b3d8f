"""Which backbone and release format each table and figure shows, and why one cannot be made.

The paper's numbering holds for every suite.  Where a suite lacks what a table needs, the table is
made all the same and says why it is empty; a figure has nothing to draw and ends the run.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from trap2.merging.catalogue import data_column
from trap2.models.families import family_of
from trap2.suites.paper import FIGURES, TABLES, Figure, Table
from trap2.suites.settings import Suite
from trap2.suites.sibling_tables import FIGURES as SIBLING_FIGURES
from trap2.suites.sibling_tables import TABLES as SIBLING_TABLES


@dataclass(frozen=True)
class Artifact:
    """Files of ``results/`` with one stem.

    Attributes:
        forms: their endings; the report has a page of the first.
        section: where the report has it; empty if nowhere.
        label: what the report calls it.
        text: what it shows, for the report.
        plain: the endings that a run makes for which nothing was asked.
        brief: what the summary of such a run says of it.
        release_format: what the suite must train for it.
    """

    forms: tuple[str, ...]
    section: str = ""
    label: str = ""
    text: str = ""
    plain: tuple[str, ...] = ()
    brief: str = ""
    release_format: str = "lora"


def _table(number: int, table: Table) -> Artifact:
    # Two spaces before one digit: the report sorts labels as texts.
    return Artifact(
        *(("csv", "tex"), TABLE_PAGES, f"Table {number:>2}", table.text),
        plain=("csv",) if table.kind in {"standalone", "merging"} else (),
        brief=table.brief,
        release_format=table.release_format,
    )


def _figure(number: int, figure: Figure) -> Artifact:
    return Artifact(
        *(("csv", "pdf", "png"), FIGURE_PAGES, f"Figure {number}", figure.caption),
        plain=("pdf", "png") if figure.brief else (),
        brief=figure.brief,
    )


TABLE_PAGES, FIGURE_PAGES, THEORY, CLAIMS = "Tables", "Figures", "Theory", "Claims"
THREATS, SIBLINGS = "Threats", "Sibling papers"
"""The sections of the report; that of the ablations stands with their rule."""


ARTIFACTS: dict[str, Artifact] = {
    **{f"table{number}": _table(number, table) for number, table in TABLES.items()},
    "cells": Artifact(("csv",), plain=("csv",), brief="every single merge, task by task"),
    **{f"figure{number}": _figure(number, figure) for number, figure in FIGURES.items()},
    "summary": Artifact(
        *(("txt",), CLAIMS, "The run in a few lines"),
        "What Tables 1 and 2 show, and the SHA-256 of the run's manifest.",
        plain=("txt",),
    ),
    "theorem2": Artifact(
        *(("csv",), THEORY, "Theorem A.2"),
        "Bounds of Theorem A.2 beside the measured increase of the test loss, in nats.",
    ),
    "theorem4": Artifact(
        *(("csv",), THEORY, "Theorem A.4"),
        "Bounds of Theorem A.4 beside the measured increase of the test loss, in nats.",
    ),
    "theory": Artifact(
        *(("txt",), THEORY, "Premises"),
        "How often the premises of Theorems A.2 and A.4 hold.",
    ),
    "threats": Artifact(
        *(("csv", "pdf", "png"), THREATS, "Attacks"),
        "What each attack acquires of each protection, in percent of the way from zero-shot to the "
        "unprotected merge on the protected task, and what it keeps of the other tasks; mean over "
        "the protected tasks, with the verdict, what the attacker knows, and the cost.",
    ),
    "threats_cells": Artifact(
        *(("csv",), THREATS, "Attacks, every merge"),
        "Every merge of every attack: a row a protected task, seed and budget.",
    ),
    "price": Artifact(
        *(("csv", "pdf", "png"), THREATS, "Price"),
        "What attacks with a budget acquire and keep, over images a task and over steps.",
    ),
    "recovery": Artifact(
        *(("csv", "tex"), THREATS, "Recovery"),
        "Accuracy in percent after merging with data and after recovery with data, mean over tasks "
        "and protected tasks, beside the project page's Table 5.",
    ),
    "handling": Artifact(
        *(("csv", "pdf", "png"), THREATS, "Handling"),
        "Standalone accuracy after what people do to weights without merging them, beside that as "
        "released; mean over the tasks.",
    ),
    "threat_claims": Artifact(
        *(("csv",), THREATS, "Claims about attacks and handling"),
        "What is claimed about attacks and handling, and what the run says, as in claims.csv.",
    ),
    **{
        name: Artifact(("csv", "tex"), SIBLINGS, table.label, table.text)
        for name, table in SIBLING_TABLES.items()
    },
    **{
        name: Artifact(("csv", "pdf", "png"), SIBLINGS, f"Merge-Lock, Figure {name[-1]}", text)
        for name, text in SIBLING_FIGURES.items()
    },
    "sibling_claims": Artifact(
        *(("csv",), SIBLINGS, "Claims of the sibling papers"),
        "What the sibling papers claim, and what is ours about them, with what the run says and "
        "what their own published numbers say (published), as in claims.csv.",
    ),
    "claims": Artifact(
        *(("csv",), CLAIMS, "Claims and verdicts"),
        "The paper's claims and what the run says about each. *held* of *of* comparisons satisfy "
        "the test; *margin* is the least favourable one; *published* is the verdict of the same "
        "test on the paper's numbers.",
    ),
    "comparison": Artifact(
        *(("csv", "md"), CLAIMS, "Beside the published numbers"),
        "The run beside the published numbers: differences for a suite of the paper's datasets, "
        "otherwise the order in each column.",
    ),
}
"""All that a suite can show, by the stem of its files; ablations aside."""


CLAIMED: dict[str, tuple[str, ...]] = {
    THREATS: ("threats", "recovery", "handling"),
    SIBLINGS: (*SIBLING_TABLES, *SIBLING_FIGURES),
}
"""The tables and figures that claims are tested on which are not the paper's, by section."""


MANIFESTS = ("manifest.json", "manifest_all.json")
"""Lists of the files behind the artifacts of a plain run, and behind all of them."""


NAMES = (
    *(f"{name}.{form}" for name, artifact in ARTIFACTS.items() for form in artifact.forms),
    *MANIFESTS,
    "reproduction.md",
)
"""The files of ``results/`` that can be asked for by name, ablations aside."""


PAGES: dict[str, Artifact] = {
    f"{name}.{artifact.forms[0]}": artifact
    for name, artifact in ARTIFACTS.items()
    if artifact.section not in {"", FIGURE_PAGES}
}
"""The files that the report shows as pages."""


BRIEFS = {
    f"{name}.{artifact.plain[-1]}": artifact.brief
    for name, artifact in ARTIFACTS.items()
    if artifact.brief
}
"""What the summary of a plain run says of its artifacts, by their files."""


def section_names(section: str) -> list[str]:
    """The files of a section of the report: those about attacks, those of the sibling papers."""
    return [
        f"{name}.{form}"
        for name, artifact in ARTIFACTS.items()
        if artifact.section == section
        for form in artifact.forms
    ]


def plain_names(release_formats: Collection[str]) -> list[str]:
    """The files of a run for which nothing was asked, of a suite with these release formats."""
    return [
        f"{name}.{form}"
        for name, artifact in ARTIFACTS.items()
        for form in artifact.plain
        if artifact.release_format == "lora" or artifact.release_format in release_formats
    ]


def all_names(*, figures: bool, ablations: Iterable[str]) -> list[str]:
    """Every file of the paper that a suite can show; :func:`section_names` has the others.

    Args:
        figures: whether it has figures (:func:`figure_not_applicable`), and with them theory.
        ablations: the settings that it sweeps.
    """
    lacking = {*CLAIMED} if figures else {*CLAIMED, FIGURE_PAGES, THEORY}
    shown = {
        name: artifact.forms
        for name, artifact in ARTIFACTS.items()
        if artifact.section not in lacking
    }
    shown |= {f"ablation_{setting}": ("csv", "pdf", "png") for setting in ablations}
    return [f"{name}.{form}" for name, forms in shown.items() for form in forms]


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
    trained = suite.backbones_in(table.release_format)
    found = [name for name in trained if _fits(suite, name, table.family)]
    return found if table.position is None else found[table.position :][:1]


def table_not_applicable(name: str, suite: Suite, number: int) -> str | None:
    """Why a suite has no such table; None where it has one.

    Args:
        name: the suite's.
        suite: its settings.
        number: the paper's number of the table, a key of :data:`TABLES`.
    """
    table = TABLES[number]
    if table.release_format not in suite.release_formats:
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
    backbone = suite.figures.backbone
    if "lora" not in suite.release_formats:
        return (
            f"the figures show adapters (release_formats.lora), and the suite '{name}' trains none"
        )
    if backbone not in suite.backbones_in("lora"):
        return (
            f"the figures show adapters on figures.backbone = {backbone}, and the suite '{name}' "
            "trains none there; add it to release_formats.lora.backbones or name another"
        )
    if "trap2" not in suite.protections:
        return f"the figures show TRAP², which is none of the protections of '{name}'"
    return None


def data_columns(suite: Suite) -> list[str]:
    """The columns of Table 5."""
    data = suite.merging.data
    return [data_column(m, sampling) for m in data.methods for sampling in data.samplings]


def figure_settings(suite: Suite, number: int) -> dict[str, object]:
    """What a figure must know of a suite, and nothing that it need not."""
    known: dict[str, Callable[[], object]] = {
        "task": lambda: suite.figures.task,
        "tasks": lambda: list(suite.tasks),
        "pair": lambda: figure_pair(suite),
        "cells": lambda: data_columns(suite),
    }
    return {name: known[name]() for name in FIGURES[number].settings}


def figure_pair(suite: Suite) -> tuple[str, str]:
    """The two tasks of Figure 3: the protected one (figures.task) and the first other one."""
    protected = suite.figures.task
    return protected, next(task for task in suite.tasks if task != protected)


def _fits(suite: Suite, backbone: str, family: str) -> bool:
    return not family or family_of(suite.backbones[backbone].architecture) == family
