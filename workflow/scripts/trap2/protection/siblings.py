"""Protections of the sibling papers: MergeGuard, ARF, and MergeBarrier's attention part.

Free of heavy imports, as every catalogue.  docs/siblings.md says where the papers are silent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trap2.protection.entries import mixing, scales
from trap2.protection.protection import PROTECTIONS, Context, Layers, Protection
from trap2.runtime.catalogue import Option, Options

if TYPE_CHECKING:
    from torch import Tensor

    from trap2.protection.adapters import Adapter
    from trap2.protection.checkpoints import Weights
    from trap2.protection.objective import Objective
    from trap2.protection.transforms import Transform
    from trap2.updates.delta import LowRank

MERGEGUARD_PAPER = "MergeGuard (arXiv 2511.11851), Section 5"
ARF_PAPER = "arXiv 2606.30360, after a reading note"
MERGEBARRIER_PAPER = (
    "MergeBarrier (arXiv 2511.10712), after a reading note; ours where it is silent"
)

_STAGE_1 = {
    "alpha": Option(0.01, "α, factor of Σ ‖θ‖² beside the loss", high=100, low_open=False),
}
_STAGE_2 = {
    "critical": Option(0.1, "k', share of the tensors that are kept", low_open=False),
    "masking": Option(
        "base",
        "what stands for a tensor whose accuracy drop is measured (ours): W0, or zeros",
        choices=("base", "zero"),
    ),
    "share": Option(0.1, "k, share of the other entries that is taken back", low_open=False),
    "significance": Option(
        "update",
        "what makes an entry significant (ours): |τ|, or |θ|",
        choices=("update", "weight"),
    ),
    "scope": Option(
        "global",
        "where the most significant are sought (ours): among all tensors, or in each",
        choices=("global", "tensor"),
    ),
    "beta": Option(1.0, "β, how much of τ is subtracted; 1 prunes, 2 negates", high=100),
}


def _squared_norm(lambda_: float, _options: Options) -> Objective:
    from trap2.protection.mergeguard import SquaredNorm

    return SquaredNorm(lambda_)


def _stage_2(options: Options) -> dict[str, Any]:
    return {name: options[name] for name in _STAGE_2}


def _pruned(weights: Weights, base: Weights, at: Context) -> dict[str, Tensor]:
    from trap2.protection.mergeguard import prune

    return prune(weights, base, at.measured(), at.found, **_stage_2(at.options))


def _pruned_adapter(adapter: Adapter, base: Weights, at: Context) -> dict[str, LowRank]:
    from trap2.protection.mergeguard import prune_adapter

    return prune_adapter(adapter, base, at.measured(), at.found, **_stage_2(at.options))


def _repulsion(lambda_: float, options: Options) -> Objective:
    from trap2.protection.arf import AnchorRepulsion

    return AnchorRepulsion(lambda_, options["rho"])


_TRANSFORMS: dict[str, Callable[[], Transform]] = {"mergelock": mixing, "params": scales}


def _transformed(weights: Weights, _base: Layers, at: Context) -> dict[str, Tensor]:
    from trap2.protection.checkpoints import transform_attention

    if at.options["transform"] == "none":
        return dict(weights)
    transform = _TRANSFORMS[at.options["transform"]]()
    return transform_attention(transform, weights, at.heads, at.draws)


def _flipped(weights: Weights, _base: Layers, at: Context) -> dict[str, Tensor]:
    from trap2.protection.mergebarrier import flip_directions

    return flip_directions(weights, at.heads, at.options["flipped"], at.options["cover"])


PROTECTIONS.add(
    Protection(
        name="mergeguard",
        title="MergeGuard",
        paper=MERGEGUARD_PAPER,
        needs="budget",
        release_formats=("full",),
        objective=_squared_norm,
        strength="alpha",
        needs_unprotected=True,
        protect_with=_pruned,
        options={**_STAGE_1, **_STAGE_2},
    )
)
PROTECTIONS.add(
    Protection(
        name="mergeguard-refit",
        title="MergeGuard†",
        paper=f"{MERGEGUARD_PAPER}; refitted to the adapter's rank (ours)",
        needs="budget",
        release_formats=("lora",),
        objective=_squared_norm,
        strength="alpha",
        needs_unprotected=True,
        protect_with=_pruned_adapter,
        options={**_STAGE_1, **_STAGE_2},
    )
)
PROTECTIONS.add(
    Protection(
        name="mergeguard-stage1",
        title="MergeGuard I",
        paper=MERGEGUARD_PAPER,
        needs="budget",
        objective=_squared_norm,
        strength="alpha",
        needs_unprotected=True,
        options=_STAGE_1,
    )
)
PROTECTIONS.add(
    Protection(
        name="mergeguard-stage2",
        title="MergeGuard II",
        paper=MERGEGUARD_PAPER,
        needs="labels",
        release_formats=("full",),
        protect_with=_pruned,
        options=_STAGE_2,
    )
)
PROTECTIONS.add(
    Protection(
        name="arf",
        title="ARF",
        paper=ARF_PAPER,
        needs="budget",
        release_formats=("full",),
        objective=_repulsion,
        strength="lambda_dist",
        protect_with=_transformed,
        options={
            "lambda_dist": Option(
                1.0, "λ_dist, factor of the repulsion", high=1000, low_open=False
            ),
            "rho": Option(0.05, "ρ, the margin relative to ‖W0‖ of a projection", high=10),
            "transform": Option(
                "mergelock",
                "of the attention afterwards: Merge-Lock's, PaRaMS' scales, or none",
                choices=(*_TRANSFORMS, "none"),
            ),
        },
        needs_attention=True,
    )
)
PROTECTIONS.add(
    Protection(
        name="mergebarrier-attention",
        title="MergeBarrier (attention)",
        paper=MERGEBARRIER_PAPER,
        release_formats=("full",),
        protect_with=_flipped,
        options={
            "flipped": Option(0.5, "share of a head's leading directions that are flipped (ours)"),
            "cover": Option(
                "qk", "which projections: q with k, or v with out as well", choices=("qk", "qkvo")
            ),
        },
        needs_attention=True,
    )
)
