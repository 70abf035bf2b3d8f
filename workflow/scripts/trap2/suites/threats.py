"""What of a suite is attacked, and how: its ``threats``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trap2.attacks.catalogue import ATTACKS, not_applicable
from trap2.models.families import family_of
from trap2.protection import catalogue as protections
from trap2.runtime.catalogue import CatalogueError
from trap2.runtime.messages import choice
from trap2.suites.settings import Suite, Threats


def threats_of(suite: Suite) -> Threats:
    """A suite's ``threats``; all defaults where it has none."""
    return suite.threats or Threats()


def attacked_backbones(suite: Suite, release_format: str) -> list[str]:
    """The backbones on which updates of a release format are attacked."""
    chosen = threats_of(suite).backbones or (suite.figures.backbone,)
    return [name for name in suite.backbones_in(release_format) if name in chosen]


def attacked_formats(suite: Suite) -> list[str]:
    """The release formats of updates that are attacked."""
    chosen = threats_of(suite).release_formats or tuple(suite.release_formats)
    return [name for name in suite.release_formats if name in chosen]


def attacked_protections(suite: Suite, release_format: str, backbone: str) -> list[str]:
    """The protections that are attacked on one backbone, the unprotected control first."""
    family = family_of(suite.backbones[backbone].architecture)
    chosen = threats_of(suite).protections
    names = suite.protections if chosen is None else chosen
    applicable = [
        name for name in names if protections.not_applicable(name, release_format, family) is None
    ]
    return ["unprotected", *applicable]


def attack_cells(suite: Suite, release_format: str, backbone: str) -> list[tuple[str, int]]:
    """Every (attack, attack seed) on updates of one backbone and release format."""
    settings, family = threats_of(suite), family_of(suite.backbones[backbone].architecture)
    names = list(ATTACKS) if settings.attacks is None else settings.attacks
    return [
        (name, seed)
        for name in names
        if not_applicable(name, release_format, family) is None
        for seed in range(settings.seeds if ATTACKS[name].random else 1)
    ]


def threat_problems(suite: Suite) -> Iterator[str]:
    """What is wrong with a suite's ``threats``, a line each."""
    settings = threats_of(suite)
    named = {
        "attacks": (settings.attacks, list(ATTACKS), "an attack"),
        "protections": (settings.protections, list(protections.PROTECTIONS), "a protection"),
        "release_formats": (
            settings.release_formats,
            list(suite.release_formats),
            "a release format of this suite",
        ),
        "backbones": (settings.backbones, list(suite.backbones), "a backbone of this suite"),
    }
    for key, (given, known, what) in named.items():
        for name in given or ():
            if name not in known:
                yield choice(f"threats.{key}", name, known, what)
    yield from _option_problems(settings.options)


def _option_problems(given: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, options in given.items():
        if name not in ATTACKS:
            yield choice("threats.options", name, list(ATTACKS), "an attack")
            continue
        try:
            ATTACKS[name].check_options(options)
        except CatalogueError as error:
            yield from (f"threats.options.{name}: {line}" for line in str(error).splitlines())
