"""Names that a configuration gives: they stand in paths, beside the pipeline's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from trap2.runtime.messages import shortened
from trap2.suites.settings import Suite

LONGEST = 60

SUITE = re.compile(r"[a-z0-9-]+")
BACKBONE = re.compile(r"[A-Za-z0-9_-]+")
TASK = re.compile(r"[A-Za-z0-9_]+")

RESERVED_SUITES = ("published", "logs", "provenance")
RESERVED_BACKBONES = ("data", "pages", "seeds", "heads", "manifest", "published", "provenance")
RESERVED_TASKS = ("none", "ablations", "curvature", "pairs", "scales", "merges", "data_merges")
"""Folders of the pipeline's own, and the word for "no task"."""


def suite_names(folder: Path) -> list[str]:
    """The suites of a folder; files of another form, as systems leave them, are none.

    Args:
        folder: the suites' folder; what is no ``{suite}.yaml`` is passed over, such as
            ``._demo.yaml``.
    """
    return sorted(path.stem for path in folder.glob("*.yaml") if suite_problem(path.stem) is None)


def suite_problem(name: str) -> str | None:
    """Why no suite can have this name, or None."""
    return _problem("suite", name, SUITE, "small letters, digits and -", RESERVED_SUITES)


def name_problems(suite: Suite) -> Iterator[str]:
    """What is wrong with the names that a suite gives."""
    known = "letters, digits and _"
    for kind, names, pattern, signs, reserved in (
        ("backbones", suite.backbones, BACKBONE, f"{known} or -", RESERVED_BACKBONES),
        ("tasks", suite.tasks, TASK, known, RESERVED_TASKS),
    ):
        for name in names:
            if problem := _problem(kind, name, pattern, signs, reserved):
                yield problem
        yield from _twins(kind, names)


def _problem(
    key: str, name: str, pattern: re.Pattern[str], signs: str, reserved: Iterable[str]
) -> str | None:
    if not pattern.fullmatch(name) or len(name) > LONGEST:
        return (
            f"{key}: '{shortened(name)}' stands in paths and must be 1 to {LONGEST} {signs}. "
            "Rename it"
        )
    if name.casefold() in reserved:
        return (
            f"{key}: '{name}' is the name of a folder of the results; so are "
            f"{', '.join(reserved)}. Rename it"
        )
    return None


def _twins(key: str, names: Iterable[str]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(name.casefold(), name)
        if twin != name:
            yield (
                f"{key}: '{shortened(name)}' and '{shortened(twin)}' differ in capitals alone, and "
                "are one folder on some systems. Rename one"
            )
