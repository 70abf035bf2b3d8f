"""All attacks by name.  Adding one is a file of ``entries`` and a line here, or a plugin."""

from __future__ import annotations

from trap2.attacks.attack import ATTACKS as ATTACKS
from trap2.attacks.attack import Attack
from trap2.attacks.entries import alignment as alignment
from trap2.attacks.entries import coefficients as coefficients
from trap2.attacks.entries import data as data
from trap2.attacks.entries import update as update
from trap2.models.families import FAMILIES

_FORMATS = {"lora": "adapters", "full": "whole checkpoints"}


def not_applicable(name: str, release_format: str, family: str) -> str | None:
    """Why an attack does not apply to a backbone's updates; None where it does.

    Args:
        name: a key of :data:`ATTACKS`.
        release_format: ``lora`` or ``full``.
        family: the backbone's, a key of :data:`trap2.models.families.FAMILIES`.
    """
    attack: Attack = ATTACKS[name]
    if release_format not in attack.release_formats:
        takes = " and ".join(_FORMATS[each] for each in attack.release_formats)
        return f"{attack.title} ({name}) works on {takes}, not {_FORMATS[release_format]}"
    if attack.needs_attention and not FAMILIES[family].attention:
        return f"{attack.title} ({name}) works on attention, and a {family} backbone has none"
    return None
