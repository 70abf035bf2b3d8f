"""The attacks by name: who merges a protected update anyway, with what, and at what price.

An attack is a merger that wants a protected update in particular.  It knows the base, the updates
as they were published, and what it ``needs`` beyond them: nothing, a sample of unlabelled images,
labels, or a budget of training steps.  It does not know λ, the protection's random draws or the
unprotected update.  Free of heavy imports, as every catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trap2.runtime.catalogue import Catalogue, Entry, Options

if TYPE_CHECKING:
    from trap2.merging.sample import Sample
    from trap2.updates.delta import Update

Recover = Callable[["Update", "Sample | None", Options, int], "Update"]
"""From the protected update, what the attack may see of its task (None where it needs nothing),
complete options and a seed to the update that is merged in the protected one's place."""


@dataclass(frozen=True, kw_only=True)
class Attack(Entry):
    """An attack on one protected update.

    Attributes:
        recover: what it does to the update before it is merged.
    """

    recover: Recover


ATTACKS: Catalogue[Attack] = Catalogue("attack", names="[a-z0-9][a-z0-9-]*", reserved=["none"])
