"""What of a suite is merged by the protocols of the sibling papers, and how: its ``siblings``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trap2.attacks.attack import Attack
from trap2.attacks.catalogue import ATTACKS
from trap2.attacks.catalogue import not_applicable as attack_not_applicable
from trap2.merging.catalogue import METHODS
from trap2.models.families import FAMILIES, family_of
from trap2.protection.catalogue import PROTECTIONS, not_applicable
from trap2.runtime.catalogue import Catalogue, CatalogueError, Entry
from trap2.runtime.messages import choice
from trap2.suites.settings import Suite
from trap2.suites.sibling_settings import Siblings

Cell = tuple[str, str, str, str]
"""A protocol, the partner or ``all``, a method and what was done before merging."""

PROTOCOLS = ("alone", "pair", "curve", "path", "all")

ALL, NONE, ADAMERGING = "all", "none", "AdaMerging"

_ROTATED = ("align-rotation", "aga")

DEFAULT_ATTACKS: Mapping[str, tuple[str, ...]] = {
    "unprotected": ("aga", "aga-paired"),
    "params": ("align-params", "align-rotation", "aga", "aga-paired"),
    "mergelock": ("align-rotation", "align-params", "aga", "aga-paired"),
    "mergeguard": (*_ROTATED, "unmask", "graderase"),
    "mergeguard-stage1": (),
    "mergeguard-stage2": (),
    "arf": _ROTATED,
    "mergebarrier-attention": _ROTATED,
    "trap2": ("align-rotation", "align-params", "aga", "aga-paired"),
}
"""What is done before merging, by protection; another one has :data:`_ROTATED`."""

_ADAMERGED_PAIRS = {"unprotected": (NONE,), "mergelock": (NONE, "align-rotation")}
"""Protections whose pairs are merged by AdaMerging too, with what is done to them before
(Merge-Lock's Table 4)."""

_ADAMERGED_ALL = ("unprotected", "mergeguard")
"""Protections whose merges of all are by AdaMerging too (MergeGuard's Table 2)."""


def siblings_of(suite: Suite) -> Siblings:
    """A suite's ``siblings``; all defaults where it has none."""
    return suite.siblings or Siblings()


def sibling_backbones(suite: Suite) -> list[str]:
    """The backbones of the protocols: with whole checkpoints and attention."""
    chosen = siblings_of(suite).backbones
    return [
        name
        for name in suite.backbones_in("full")
        if FAMILIES[family_of(suite.backbones[name].architecture)].attention
        and (chosen is None or name in chosen)
    ]


def siblings_not_applicable(name: str, suite: Suite) -> str | None:
    """Why a suite has none of the protocols; None where it has them."""
    if "full" not in suite.release_formats:
        return (
            "the protocols of the sibling papers merge whole checkpoints (release_formats.full), "
            f"and the suite '{name}' trains none"
        )
    if not sibling_backbones(suite):
        return (
            "the protocols of the sibling papers merge whole checkpoints of backbones with "
            f"attention, and the suite '{name}' trains none; add one to release_formats.full."
            "backbones"
        )
    return None


def sibling_protections(suite: Suite, backbone: str) -> list[str]:
    """The protections that are compared on one backbone, the unprotected control first."""
    family = family_of(suite.backbones[backbone].architecture)
    names = siblings_of(suite).protections
    return ["unprotected", *(n for n in names if not_applicable(n, "full", family) is None)]


def sibling_attacks(suite: Suite, protection: str) -> list[str]:
    """What is done to a protection's updates before merging, ``none`` first."""
    chosen = siblings_of(suite).attacks
    return [NONE, *chosen.get(protection, DEFAULT_ATTACKS.get(protection, _ROTATED))]


def curve_task(suite: Suite) -> str:
    """The protected task of the pairs over λ."""
    return siblings_of(suite).curve_task or suite.figures.task


def paths_of(suite: Suite) -> list[tuple[str, str]]:
    """The pairs of tasks on whose path the loss is measured, the first one protected."""
    chosen = siblings_of(suite).paths
    if chosen is not None:
        return list(chosen)
    return list(zip(suite.tasks[::2], suite.tasks[1::2], strict=False))


def sibling_cells(suite: Suite, backbone: str, protection: str, protected: str) -> list[Cell]:
    """The cells of one job, by what is done before merging."""
    places = sibling_backbones(suite)
    attacks = sibling_attacks(suite, protection)
    remade = [name for name in attacks if not ends_in_a_merge(name)]
    partners = [task for task in suite.tasks if task != protected]
    cells = [("alone", ALL, "TA", attack) for attack in remade]
    # Unprotected, the merge of all is one, whichever task counts as protected.
    if protection != "unprotected" or protected == suite.tasks[0]:
        cells += _of_all(protection, attacks, whole=backbone == places[-1])
    for partner in partners:
        # Unprotected pairs are the yardstick: nothing is done to them.
        for attack in remade if protection != "unprotected" else [NONE]:
            cells.append(("pair", partner, "TA", attack))
            if backbone == places[0]:
                cells.append(("pair", partner, "TIES", attack))
                if attack in _ADAMERGED_PAIRS.get(protection, ()):
                    cells.append(("pair", partner, ADAMERGING, attack))
        if backbone == places[0]:
            cells += _drawn(suite, protected, partner)
    # What an attack remakes serves the cells beside each other.
    cells.sort(key=lambda cell: attacks.index(cell[3]))
    return cells


def _of_all(protection: str, attacks: list[str], *, whole: bool) -> Iterator[Cell]:
    for attack in attacks:
        yield (ALL, ALL, "TA", attack)
        if whole and attack == NONE:
            yield (ALL, ALL, "WA", attack)
            yield (ALL, ALL, "TIES", attack)
            if protection in _ADAMERGED_ALL:
                yield (ALL, ALL, ADAMERGING, attack)


def _drawn(suite: Suite, protected: str, partner: str) -> Iterator[Cell]:
    if protected == curve_task(suite):
        yield ("curve", partner, "TA", NONE)
    if (protected, partner) in paths_of(suite):
        yield ("path", partner, "TA", NONE)


def ends_in_a_merge(attack: str) -> bool:
    """Whether an attack ends with a merge of its own, not with updates to be merged."""
    return attack in ("unmask", "unmask-task-vector", "unmask-swept", "graderase")


def entries_of(suite: Suite, cells: list[Cell]) -> dict[str, tuple[Catalogue[Any], str]]:
    """The entries of catalogues behind some cells, by the names that cells have for them."""
    found: dict[str, tuple[Catalogue[Any], str]] = {}
    for protocol, _, method, attack in cells:
        found[method_of(suite, protocol, method)] = (METHODS, method_of(suite, protocol, method))
        if attack != NONE:
            found[attack] = (ATTACKS, attack)
    return found


def plan_of(suite: Suite, cells: list[Cell]) -> dict[str, object]:
    """What a job must know of the suite besides its cells, and nothing that it need not."""
    settings, names = siblings_of(suite), entries_of(suite, cells)
    return {
        "pair": settings.pair_coefficient,
        "all": settings.all_coefficient,
        "ties": settings.ties_coefficient,
        "curve": list(settings.curve) if any(cell[0] == "curve" for cell in cells) else [],
        "images": settings.images,
        "adamerging": {"pair": settings.pair_adamerging, "all": settings.all_adamerging},
        "options": {name: dict(o) for name, o in settings.options.items() if name in names},
    }


def method_of(suite: Suite, protocol: str, method: str) -> str:
    """The merging method that a cell's method is in the catalogue."""
    settings = siblings_of(suite)
    if method != ADAMERGING:
        return method
    return settings.all_adamerging if protocol == ALL else settings.pair_adamerging


def sibling_problems(suite: Suite) -> Iterator[str]:
    """What is wrong with a suite's ``siblings``, a line each."""
    settings = siblings_of(suite)
    known, tasks = list(PROTECTIONS), list(suite.tasks)
    for name in settings.protections:
        if name not in known:
            yield choice("siblings.protections", name, known, "a protection")
        elif "full" not in PROTECTIONS[name].release_formats:
            yield (
                f"siblings.protections has '{name}', which is not of whole checkpoints. Remove it"
            )
    for name in settings.backbones or ():
        if name not in suite.backbones_in("full"):
            what = "a backbone of release_formats.full"
            yield choice("siblings.backbones", name, list(suite.backbones_in("full")), what)
    if settings.curve_task is not None and settings.curve_task not in tasks:
        yield choice("siblings.curve_task", settings.curve_task, tasks, "a task of this suite")
    for first, second in settings.paths or ():
        for task in (first, second):
            if task not in tasks:
                yield choice("siblings.paths", task, tasks, "a task of this suite")
        if first == second:
            yield f"siblings.paths has [{first}, {second}]; give two different tasks"
    yield from _attack_problems(settings)
    yield from _option_problems(settings.options)


def _attack_problems(settings: Siblings) -> Iterator[str]:
    protections = ["unprotected", *settings.protections]
    alignments = [name for name, entry in ATTACKS.items() if _fits(entry)]
    for protection, names in settings.attacks.items():
        if protection not in protections:
            what = "a protection of siblings.protections"
            yield choice("siblings.attacks", protection, protections, what)
        for name in names:
            if name not in alignments:
                what = "an attack of the group alignment on whole checkpoints"
                yield choice(f"siblings.attacks.{protection}", name, alignments, what)


def _fits(entry: Attack) -> bool:
    return entry.group == "alignment" and attack_not_applicable(entry.name, "full", "vit") is None


def _option_problems(given: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    entries: dict[str, Entry] = {**METHODS, **ATTACKS}
    for name, options in given.items():
        if name not in entries:
            yield choice("siblings.options", name, list(entries), "a merging method or an attack")
            continue
        if options.get("then", "one") != "one":
            yield (
                f"siblings.options.{name}.then is '{options['then']}'; the protocols merge at a "
                "coefficient of their own. Remove the key"
            )
        try:
            entries[name].check_options(options)
        except CatalogueError as error:
            yield from (f"siblings.options.{name}: {line}" for line in str(error).splitlines())
