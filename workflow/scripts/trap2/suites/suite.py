"""What a suite compares: its grids of λ, its protections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trap2.models.families import family_of
from trap2.protection.catalogue import DEFENSES, objection


def lambda_text(value: float) -> str:
    """λ as it stands in paths: the shortest decimal that reads back as the same number."""
    return repr(float(value))


def lambdas_of(suite: Mapping[str, Any], release: str, task: str) -> list[str]:
    """The λ grid of one task, as path texts."""
    settings = suite["releases"][release]
    grid = settings["task_lambdas"].get(task, settings["lambdas"])
    return [lambda_text(value) for value in grid]


def protections_of(suite: Mapping[str, Any], release: str, backbone: str) -> list[str]:
    """What a suite compares on one backbone in one release, the unprotected update first.

    A post-hoc defense that does not apply there is left out, as the paper's tables do.
    """
    family = family_of(suite["backbones"][backbone]["architecture"])
    return [
        "unprotected",
        *(
            name
            for name in suite["protections"]
            if name not in DEFENSES or objection(name, release, family) is None
        ),
    ]


def merged_protections_of(suite: Mapping[str, Any], release: str, backbone: str) -> list[str]:
    """Which of :func:`protections_of` are merged; the unprotected update always is."""
    merged = ["unprotected", *suite["merging"].get("protections", suite["protections"])]
    return [name for name in protections_of(suite, release, backbone) if name in merged]
