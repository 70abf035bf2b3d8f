"""The post-hoc defenses by name: where each comes from and which updates it takes.

Free of heavy imports, because the workflow asks it in every job which rows its tables have.
"""

from __future__ import annotations

from dataclasses import dataclass

PARAMS_PAPER = "PaRaMS (Junhao et al., 2025), after Appendix D.5 of the TRAP² paper"
MERGELOCK_PAPER = "Merge-Lock (Wang et al., 2025), after Appendix D.5 of the TRAP² paper"


class NotApplicable(ValueError):
    """A defense that has nothing to act on in a model or release; the message says why."""


@dataclass(frozen=True)
class Defense:
    """A post-hoc defense.

    Attributes:
        name: in configurations and paths.
        title: in the paper's tables.
        paper: where it comes from.
        release: the updates that it takes: adapters (``lora``) or whole checkpoints (``full``).
    """

    name: str
    title: str
    paper: str
    release: str


DEFENSES: dict[str, Defense] = {
    defense.name: defense
    for defense in (
        Defense("params-adapter", "PaRaMS*", PARAMS_PAPER, "lora"),
        Defense("params-refit", "PaRaMS†", PARAMS_PAPER, "lora"),
        Defense("mergelock-adapter", "Merge-Lock*", MERGELOCK_PAPER, "lora"),
        Defense("mergelock-refit", "Merge-Lock†", MERGELOCK_PAPER, "lora"),
        Defense("params", "PaRaMS", PARAMS_PAPER, "full"),
        Defense("mergelock", "Merge-Lock", MERGELOCK_PAPER, "full"),
    )
}

_RELEASES = {"lora": "adapters", "full": "whole checkpoints"}


def objection(name: str, release: str, family: str) -> str | None:
    """Why a defense does not apply to a backbone's updates; None where it does.

    Args:
        name: a key of :data:`DEFENSES`.
        release: ``lora`` or ``full``.
        family: the backbone's, ``vit`` or ``convnext``.
    """
    defense = DEFENSES[name]
    if release != defense.release:
        return (
            f"{defense.title} ({name}) transforms {_RELEASES[defense.release]}, not "
            + (_RELEASES[release])
        )
    if family != "vit":
        return (
            f"{defense.title} ({name}) hides its transform in products of attention projections "
            f"(q with k, v with out), and a {family} backbone has no attention to cancel it in; "
            "the paper leaves such backbones out as well"
        )
    return None
