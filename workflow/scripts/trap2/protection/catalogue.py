"""The protections by name: where each comes from, which updates it takes, and what it does.

A protection is trained (an objective in place of the task loss), or post-hoc (a transform of a
fine-tuned update).  Free of heavy imports, because the workflow asks in every job which rows its
tables have: a protection imports what it computes with when it runs.  Adding one is one function
and one entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trap2.models.families import FAMILIES
from trap2.runtime.catalogue import Catalogue, CatalogueError, Entry, Option, Options
from trap2.runtime.errors import Trap2Error

if TYPE_CHECKING:
    from torch import Tensor

    from trap2.protection.adapters import Adapter
    from trap2.protection.checkpoints import Weights
    from trap2.protection.objective import Objective
    from trap2.protection.transforms import Draws, Heads, Transform
    from trap2.updates.delta import LowRank


PARAMS_PAPER = "PaRaMS (Junhao et al., 2025), after Appendix D.5 of the TRAP² paper"


MERGELOCK_PAPER = "Merge-Lock (Wang et al., 2025), after Appendix D.5 of the TRAP² paper"

Layers = Mapping[str, Any]
"""By weight name: low-rank factors (an adapter's ΔW) or tensors (all weights)."""

Protect = Callable[["Layers", "Layers", "Heads", "Draws"], dict[str, Any]]
"""From an update's layers, W0, the attention modules with their numbers of heads, and the source of
randomness, to the layers that are released."""


class NotApplicable(Trap2Error):
    """Nothing for a protection to act on in a model or release format; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Protection(Entry):
    """A protection, with an objective or a post-hoc function.

    Attributes:
        release_formats: the updates that it takes: adapters (``lora``; a post-hoc function gets
            low-rank factors ΔW by layer) or whole checkpoints (``full``; all weights W).
        objective: what training minimises, from λ and complete options; makes it a trained
            protection, with one training for each λ of a suite's grid.
        needs_partners: whether the objective, with some complete options, is trained against the
            other tasks' unprotected updates.
        protect: what is done to a fine-tuned update; leaves its arguments as they are.
        transform: the distribution that a post-hoc function draws from, for the record.
        needs_attention: whether it acts on attention projections.
    """

    release_formats: tuple[str, ...] = ("lora", "full")
    objective: Callable[[float, Options], Objective] | None = None
    needs_partners: Callable[[Options], bool] | None = None
    protect: Protect | None = None
    transform: Callable[[], Transform] | None = None
    needs_attention: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective is None and self.protect is None:
            raise CatalogueError(f"{self.name}: give an objective or a function protect")
        if self.objective is not None and self.protect is not None:
            raise CatalogueError(
                f"{self.name} has an objective and a function protect. A protection that is "
                "trained and transformed afterwards is not supported yet: no rule would apply "
                "protect to the update that is chosen. Give one of the two"
            )


PROTECTIONS: Catalogue[Protection] = Catalogue(
    "protection",
    names="[a-z0-9][a-z0-9-]*",
    reserved=["unprotected", "fine-tuned", "zero-shot", "none", "ablation"],
)
"""Names stand in the paths of updates, beside those reserved."""


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
    return protection.objective(lambda_, protection.check_options(given))


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


def _trap2(lambda_: float, options: Options) -> Objective:
    from trap2.protection.trap2 import Trap2

    return Trap2(lambda_, **options)


def _layerwise(lambda_: float, options: Options) -> Objective:
    from trap2.protection.trap2 import Trap2
    from trap2.protection.trap2_variants import LayerwiseTrap2

    return LayerwiseTrap2(Trap2(lambda_, **options))


def _mixed(lambda_: float, options: Options) -> Objective:
    from trap2.protection.trap2 import Trap2
    from trap2.protection.trap2_variants import MixedTrap2

    law = Trap2(lambda_, **{name: options[name] for name in _LAW})
    return MixedTrap2(law, **{name: options[name] for name in options if name not in _LAW})


def _meets_tasks(options: Options) -> bool:
    return bool(options["other"] == "task")


def _scales() -> Transform:
    from trap2.protection.params import DiagonalScales

    return DiagonalScales()


def _mixing() -> Transform:
    from trap2.protection.mergelock import RandomMixing

    return RandomMixing()


def _in_adapter_space(transform: Callable[[], Transform]) -> Protect:
    def protect(adapter: Adapter, _base: Weights, heads: Heads, draws: Draws) -> dict[str, LowRank]:
        from trap2.protection.adapters import transform_adapter

        return transform_adapter(transform(), adapter, heads, draws)

    return protect


def _refitted(transform: Callable[[], Transform]) -> Protect:
    def protect(adapter: Adapter, base: Weights, heads: Heads, draws: Draws) -> dict[str, LowRank]:
        from trap2.protection.adapters import refit_adapter

        return refit_adapter(transform(), adapter, base, heads, draws)

    return protect


def _params(weights: Weights, base: Weights, heads: Heads, draws: Draws) -> dict[str, Tensor]:
    from trap2.protection.checkpoints import transform_attention
    from trap2.protection.params import permute_hidden_units

    scaled = transform_attention(_scales(), weights, heads, draws)
    return permute_hidden_units(scaled, base, heads)


def _mergelock(weights: Weights, _base: Weights, heads: Heads, draws: Draws) -> dict[str, Tensor]:
    from trap2.protection.checkpoints import transform_attention

    return transform_attention(_mixing(), weights, heads, draws)


_LAW = {
    "weighting": Option("1/s", "w(s) of Eq. 8", choices=("1/s", "1/sqrt(s)", "1")),
    "s_min": Option(0.05, "smallest off-nominal scale", high_open=True),
    "s_max": Option(2.0, "largest off-nominal scale", low=1, high=100),
    "delta": Option(0.05, "margin around s = 1 that is never drawn", high_open=True),
}

PROTECTIONS.add(
    Protection(
        name="trap2",
        title="TRAP²",
        paper="the paper, Section 5",
        needs="budget",
        objective=_trap2,
        options=_LAW,
    )
)
PROTECTIONS.add(
    Protection(
        name="trap2-layers",
        title="TRAP² by layers",
        paper="ours, after the paper's Section 5",
        needs="budget",
        objective=_layerwise,
        options=_LAW,
    )
)
PROTECTIONS.add(
    Protection(
        name="trap2-mixed",
        title="TRAP² with others",
        paper="ours, after the paper's Section 5",
        needs="budget",
        objective=_mixed,
        needs_partners=_meets_tasks,
        options={
            **_LAW,
            "other": Option(
                "noise", "what is added: noise, or another task's update", choices=("noise", "task")
            ),
            "pinned": Option(0.5, "share of the steps at which s is 1", low_open=False),
            "other_min": Option(0.1, "smallest coefficient of the other", high=100, low_open=False),
            "other_max": Option(1.0, "largest coefficient of the other", high=100),
        },
    )
)
PROTECTIONS.add(
    Protection(
        name="params-adapter",
        title="PaRaMS*",
        paper=PARAMS_PAPER,
        release_formats=("lora",),
        protect=_in_adapter_space(_scales),
        transform=_scales,
        needs_attention=True,
    )
)
PROTECTIONS.add(
    Protection(
        name="params-refit",
        title="PaRaMS†",
        paper=PARAMS_PAPER,
        release_formats=("lora",),
        protect=_refitted(_scales),
        transform=_scales,
        needs_attention=True,
    )
)
PROTECTIONS.add(
    Protection(
        name="mergelock-adapter",
        title="Merge-Lock*",
        paper=MERGELOCK_PAPER,
        release_formats=("lora",),
        protect=_in_adapter_space(_mixing),
        transform=_mixing,
        needs_attention=True,
    )
)
PROTECTIONS.add(
    Protection(
        name="mergelock-refit",
        title="Merge-Lock†",
        paper=MERGELOCK_PAPER,
        release_formats=("lora",),
        protect=_refitted(_mixing),
        transform=_mixing,
        needs_attention=True,
    )
)
PROTECTIONS.add(
    Protection(
        name="params",
        title="PaRaMS",
        paper=PARAMS_PAPER,
        release_formats=("full",),
        protect=_params,
        transform=_scales,
        needs_attention=True,
    )
)
PROTECTIONS.add(
    Protection(
        name="mergelock",
        title="Merge-Lock",
        paper=MERGELOCK_PAPER,
        release_formats=("full",),
        protect=_mergelock,
        transform=_mixing,
        needs_attention=True,
    )
)

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
