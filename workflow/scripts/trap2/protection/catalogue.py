"""The protections by name: where each comes from, which updates it takes, and what it does.

A protection is trained (an objective in place of the task loss, and maybe a transform of what was
trained), or post-hoc (a transform of a fine-tuned update).  Free of heavy imports, because the
workflow asks in every job which rows its tables have: a protection imports what it computes with
when it runs.  Adding one is one function and one entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trap2.models.families import FAMILIES
from trap2.protection import entries as entries
from trap2.protection import siblings as siblings
from trap2.protection.protection import PROTECTIONS as PROTECTIONS
from trap2.protection.protection import NotApplicable as NotApplicable
from trap2.protection.protection import Protection as Protection
from trap2.runtime.catalogue import CatalogueError

if TYPE_CHECKING:
    from trap2.protection.objective import Objective


def trained_protections() -> list[str]:
    """The protections that are trained."""
    return [name for name, each in PROTECTIONS.items() if each.objective is not None]


def post_hoc_protections(release_format: str | None = None) -> list[str]:
    """The protections of updates that were fine-tuned before, of one release format or of all."""
    return [
        name
        for name, each in PROTECTIONS.items()
        if each.objective is None and release_format in (None, *each.release_formats)
    ]


def objective_of(name: str, lambda_: float, given: Mapping[str, object]) -> Objective:
    """A trained protection's objective.

    Args:
        name: a key of :data:`PROTECTIONS`.
        lambda_: λ, its trade-off between utility and protection.
        given: its options; the others are at their defaults.

    Raises:
        CatalogueError: an unknown protection or option, or a value out of its range.
        NotApplicable: it is not trained.
    """
    protection = PROTECTIONS[name]
    if protection.objective is None:
        raise NotApplicable(
            f"{name} is no trained protection; choose from {', '.join(trained_protections())}"
        )
    if protection.strength in given and strength_of(name, given) != lambda_:
        raise CatalogueError(
            f"λ is {lambda_:g} and {protection.strength}, which is the λ of {name}, is "
            f"{given[str(protection.strength)]}. Give one of the two"
        )
    return protection.objective(lambda_, protection.check_options(given))


def strength_of(name: str, given: Mapping[str, object]) -> float | None:
    """The λ of a trained protection that has an option for it; None where a suite's grid has it.

    Args:
        name: a key of :data:`PROTECTIONS`.
        given: its options; the others are at their defaults.

    Raises:
        CatalogueError: an unknown protection or option, or a value out of its range.
    """
    protection = PROTECTIONS[name]
    if protection.strength is None:
        return None
    return float(protection.check_options(given)[protection.strength])


def needs_partners(name: str, given: Mapping[str, object]) -> bool:
    """Whether a protection is trained against the other tasks' unprotected updates.

    Args:
        name: a key of :data:`PROTECTIONS`.
        given: its options; the others are at their defaults.

    Raises:
        CatalogueError: an unknown protection or option, or a value out of its range.
    """
    protection = PROTECTIONS[name]
    asked = protection.needs_partners
    return asked is not None and asked(protection.check_options(given))


_FORMATS = {"lora": "adapters", "full": "whole checkpoints"}


def not_applicable(name: str, release_format: str, family: str) -> str | None:
    """Why a protection does not apply to a backbone's updates; None where it does.

    Args:
        name: a key of :data:`PROTECTIONS`.
        release_format: ``lora`` or ``full``.
        family: the backbone's, a key of :data:`trap2.models.families.FAMILIES`.
    """
    protection = PROTECTIONS[name]
    if reason := other_format(protection, release_format):
        return reason
    if protection.needs_attention and not FAMILIES[family].attention:
        return without_attention(protection, f"a {family} backbone")
    return None


def other_format(protection: Protection, release_format: str) -> str | None:
    """Why a protection does not apply to updates of a release format; None where it does."""
    if release_format in protection.release_formats:
        return None
    takes = " and ".join(_FORMATS[each] for each in protection.release_formats)
    return (
        f"{protection.title} ({protection.name}) transforms {takes}, not {_FORMATS[release_format]}"
    )


def without_attention(protection: Protection, backbone: str) -> str:
    """Why a protection of attention projections does not apply to a backbone that has none."""
    return (
        f"{protection.title} ({protection.name}) hides its transform in products of attention "
        f"projections (q with k, v with out), and {backbone} has no attention to cancel it in; "
        "the paper leaves such backbones out as well"
    )
