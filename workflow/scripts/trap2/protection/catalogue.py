"""The post-hoc defenses by name: where each comes from, which updates it takes, and what it does.

Free of heavy imports, because the workflow asks it in every job which rows its tables have: a
defense imports what it computes with when it runs.  Adding one is one function and one entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trap2.models.families import FAMILIES
from trap2.runtime.errors import Trap2Error

if TYPE_CHECKING:
    from trap2.protection.transforms import Draws, Heads, Transform


PARAMS_PAPER = "PaRaMS (Junhao et al., 2025), after Appendix D.5 of the TRAP² paper"


MERGELOCK_PAPER = "Merge-Lock (Wang et al., 2025), after Appendix D.5 of the TRAP² paper"

Layers = Mapping[str, Any]
"""By weight name: low-rank factors (an adapter's ΔW) or tensors (all weights)."""

Protect = Callable[["Layers", "Layers", "Heads", "Draws"], dict[str, Any]]
"""From an update's layers, W0, the attention modules with their numbers of heads, and the source of
randomness, to the layers that are released."""


class NotApplicable(Trap2Error):
    """A defense that has nothing to act on in a model or release format; the message says why."""


@dataclass(frozen=True)
class Defense:
    """A post-hoc defense.

    Attributes:
        name: in configurations and paths.
        title: in the tables.
        paper: where it comes from.
        release_format: the updates that it takes: adapters (``lora``, low-rank factors ΔW by
            layer) or whole checkpoints (``full``, all weights W).
        protect: what it does; leaves its arguments as they are.
        transform: the distribution that it draws from, for the record.
        needs_attention: whether it acts on attention projections.
    """

    name: str
    title: str
    paper: str
    release_format: str
    protect: Protect
    transform: Callable[[], Transform] | None = None
    needs_attention: bool = True


def _scales() -> Transform:
    from trap2.protection.params import DiagonalScales

    return DiagonalScales()


def _mixing() -> Transform:
    from trap2.protection.mergelock import RandomMixing

    return RandomMixing()


def _in_adapter_space(transform: Callable[[], Transform]) -> Protect:
    def protect(adapter: Layers, _base: Layers, heads: Heads, draws: Draws) -> dict[str, Any]:
        from trap2.protection.adapters import transform_adapter

        return transform_adapter(transform(), adapter, heads, draws)

    return protect


def _refitted(transform: Callable[[], Transform]) -> Protect:
    def protect(adapter: Layers, base: Layers, heads: Heads, draws: Draws) -> dict[str, Any]:
        from trap2.protection.adapters import refit_adapter

        return refit_adapter(transform(), adapter, base, heads, draws)

    return protect


def _params(weights: Layers, base: Layers, heads: Heads, draws: Draws) -> dict[str, Any]:
    from trap2.protection.checkpoints import transform_attention
    from trap2.protection.params import permute_hidden_units

    scaled = transform_attention(_scales(), weights, heads, draws)
    return permute_hidden_units(scaled, base, heads)


def _mergelock(weights: Layers, _base: Layers, heads: Heads, draws: Draws) -> dict[str, Any]:
    from trap2.protection.checkpoints import transform_attention

    return transform_attention(_mixing(), weights, heads, draws)


DEFENSES: dict[str, Defense] = {
    defense.name: defense
    for defense in (
        Defense(
            "params-adapter", "PaRaMS*", PARAMS_PAPER, "lora", _in_adapter_space(_scales), _scales
        ),
        Defense("params-refit", "PaRaMS†", PARAMS_PAPER, "lora", _refitted(_scales), _scales),
        Defense(
            "mergelock-adapter",
            "Merge-Lock*",
            MERGELOCK_PAPER,
            "lora",
            _in_adapter_space(_mixing),
            _mixing,
        ),
        Defense(
            "mergelock-refit", "Merge-Lock†", MERGELOCK_PAPER, "lora", _refitted(_mixing), _mixing
        ),
        Defense("params", "PaRaMS", PARAMS_PAPER, "full", _params, _scales),
        Defense("mergelock", "Merge-Lock", MERGELOCK_PAPER, "full", _mergelock, _mixing),
    )
}

_RELEASES = {"lora": "adapters", "full": "whole checkpoints"}


def not_applicable(name: str, release_format: str, family: str) -> str | None:
    """Why a defense does not apply to a backbone's updates; None where it does.

    Args:
        name: a key of :data:`DEFENSES`.
        release_format: ``lora`` or ``full``.
        family: the backbone's, a key of :data:`trap2.models.families.FAMILIES`.
    """
    defense = DEFENSES[name]
    if release_format != defense.release_format:
        return (
            f"{defense.title} ({name}) transforms {_RELEASES[defense.release_format]}, not "
            + (_RELEASES[release_format])
        )
    if defense.needs_attention and not FAMILIES[family].attention:
        return without_attention(defense, f"a {family} backbone")
    return None


def without_attention(defense: Defense, backbone: str) -> str:
    """Why a defense of attention projections does not apply to a backbone that has none."""
    return (
        f"{defense.title} ({defense.name}) hides its transform in products of attention "
        f"projections (q with k, v with out), and {backbone} has no attention to cancel it in; "
        "the paper leaves such backbones out as well"
    )
