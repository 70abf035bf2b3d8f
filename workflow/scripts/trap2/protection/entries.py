"""TRAP², its variants, and the post-hoc defenses of the paper's Section 4.

Free of heavy imports, as every catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trap2.protection.protection import PROTECTIONS, Protect, Protection
from trap2.runtime.catalogue import Option, Options

if TYPE_CHECKING:
    from torch import Tensor

    from trap2.protection.adapters import Adapter
    from trap2.protection.checkpoints import Weights
    from trap2.protection.objective import Objective
    from trap2.protection.transforms import Draws, Heads, Transform
    from trap2.updates.delta import LowRank


PARAMS_PAPER = "PaRaMS (Junhao et al., 2025), after Appendix D.5 of the TRAP² paper"


MERGELOCK_PAPER = "Merge-Lock (Wang et al., 2025), after Appendix D.5 of the TRAP² paper"


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


def scales() -> Transform:
    """PaRaMS' distribution."""
    from trap2.protection.params import DiagonalScales

    return DiagonalScales()


def mixing() -> Transform:
    """Merge-Lock's distribution."""
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

    scaled = transform_attention(scales(), weights, heads, draws)
    return permute_hidden_units(scaled, base, heads)


def _mergelock(weights: Weights, _base: Weights, heads: Heads, draws: Draws) -> dict[str, Tensor]:
    from trap2.protection.checkpoints import transform_attention

    return transform_attention(mixing(), weights, heads, draws)


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
        protect=_in_adapter_space(scales),
        transform=scales,
        needs_attention=True,
    )
)
PROTECTIONS.add(
    Protection(
        name="params-refit",
        title="PaRaMS†",
        paper=PARAMS_PAPER,
        release_formats=("lora",),
        protect=_refitted(scales),
        transform=scales,
        needs_attention=True,
    )
)
PROTECTIONS.add(
    Protection(
        name="mergelock-adapter",
        title="Merge-Lock*",
        paper=MERGELOCK_PAPER,
        release_formats=("lora",),
        protect=_in_adapter_space(mixing),
        transform=mixing,
        needs_attention=True,
    )
)
PROTECTIONS.add(
    Protection(
        name="mergelock-refit",
        title="Merge-Lock†",
        paper=MERGELOCK_PAPER,
        release_formats=("lora",),
        protect=_refitted(mixing),
        transform=mixing,
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
        transform=scales,
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
        transform=mixing,
        needs_attention=True,
    )
)
