"""What a suite compares: its grids of λ, its protections."""

from __future__ import annotations

from trap2.models.families import family_of
from trap2.protection.catalogue import needs_partners, not_applicable, strength_of
from trap2.suites.settings import Suite


def lambda_text(value: float) -> str:
    """λ as it stands in paths: the shortest decimal that reads back as the same number."""
    return repr(float(value))


def lambdas_of(
    suite: Suite, release_format: str, task: str, protection: str = "trap2"
) -> list[str]:
    """The λ grid of one task and trained protection, as path texts."""
    own = strength_of(protection, suite.protection_options.get(protection, {}))
    if own is not None:
        return [lambda_text(own)]
    settings = suite.release_formats[release_format]
    grid = settings.task_lambdas.get(task, settings.lambdas)
    return [lambda_text(value) for value in grid]


def partners_of(suite: Suite, protection: str, task: str) -> list[str]:
    """The tasks whose unprotected updates a trained protection of a task sees; mostly none."""
    options = suite.protection_options.get(protection, {})
    return [name for name in suite.tasks if name != task and needs_partners(protection, options)]


def excluded(suite: Suite, protection: str, release_format: str, backbone: str) -> str | None:
    """Why a protection does not apply to a suite's updates on one backbone; None where it does."""
    family = family_of(suite.backbones[backbone].architecture)
    return not_applicable(protection, release_format, family)


def protections_of(suite: Suite, release_format: str, backbone: str) -> list[str]:
    """What a suite compares on one backbone in one release format, the unprotected update first.

    A post-hoc defense that does not apply there is left out, as the paper's tables do.
    """
    return [
        "unprotected",
        *(
            name
            for name in suite.protections
            if excluded(suite, name, release_format, backbone) is None
        ),
    ]


def merged_protections_of(suite: Suite, release_format: str, backbone: str) -> list[str]:
    """Which of :func:`protections_of` are merged; the unprotected update always is."""
    chosen = suite.merging.protections
    merged = ["unprotected", *(suite.protections if chosen is None else chosen)]
    return [name for name in protections_of(suite, release_format, backbone) if name in merged]
