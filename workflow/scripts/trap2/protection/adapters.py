"""Post-hoc defenses of LoRA adapters (paper, Appendix D.5).

The adapter-space variants (*) transform ΔW alone, whose cross terms with W0 then no longer
cancel.  The refitted variants (†) transform W0 + ΔW and keep what a rank-r update can hold of the
difference to W0.  Neither touches a bias: an adapter has none to carry it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from trap2.protection.transforms import (
    PROJECTIONS,
    Draws,
    Heads,
    Transform,
    apply_to_rows,
    head_matrices,
    transform_weight,
)
from trap2.updates.delta import LowRank, UpdateError

Adapter = Mapping[str, LowRank]


def transform_adapter(
    transform: Transform, adapter: Adapter, heads: Heads, draws: Draws
) -> dict[str, LowRank]:
    """Transform ΔW = BA in the adapter's own space (*), through B, and for out through A.

    Args:
        transform: the distribution of T.
        adapter: layer's weight name to ΔW; must hold q, k, v and out of every attention module.
            Other layers are passed on.
        heads: attention modules and their numbers of heads.
        draws: gives the generators.

    Returns:
        An adapter of the same layers, shapes, ranks and data types.

    Raises:
        UpdateError: the adapter lacks a projection, so that a pair would be torn.
    """
    protected = dict(adapter)
    for attention, count in heads.items():
        matrices = _matrices(transform, adapter, attention, count, draws)
        for projection in PROJECTIONS:
            layer = layer_name(attention, projection)
            B, A = adapter[layer].B, adapter[layer].A
            if projection == "out_proj":
                A = apply_to_rows(matrices[projection], A.mT).mT.to(A.dtype).contiguous()
            else:
                B = apply_to_rows(matrices[projection], B).to(B.dtype)
            protected[layer] = LowRank(B, A)
    return protected


def refit_adapter(
    transform: Transform,
    adapter: Adapter,
    base: Mapping[str, torch.Tensor],
    heads: Heads,
    draws: Draws,
) -> dict[str, LowRank]:
    """Transform W = W0 + ΔW and refit an adapter of the same rank to the difference to W0 (†).

    Args:
        transform: the distribution of T.
        adapter: as in :func:`transform_adapter`.
        base: layer's weight name to W0.
        heads: attention modules and their numbers of heads.
        draws: gives the generators.

    Returns:
        An adapter of the same layers, shapes, ranks and data types.

    Raises:
        UpdateError: the adapter lacks a projection, or does not fit the base.
    """
    protected = dict(adapter)
    for attention, count in heads.items():
        matrices = _matrices(transform, adapter, attention, count, draws)
        for projection in PROJECTIONS:
            layer = layer_name(attention, projection)
            delta = adapter[layer]
            origin = base_weight(base, layer, delta.shape).double()
            moved = transform_weight(projection, matrices, origin + delta.dense(torch.float64))
            fitted = truncate(moved - origin, delta.rank)
            protected[layer] = fitted.to(delta.B.dtype)
    return protected


def truncate(matrix: torch.Tensor, rank: int) -> LowRank:
    """The closest matrix of a rank, from the SVD, with Σ shared evenly by B and A.

    Args:
        matrix: (d_out, d_in).
        rank: r ≥ 0; at most min(d_out, d_in) counts.
    """
    u, sigma, vt = torch.linalg.svd(matrix, full_matrices=False)
    root = sigma[:rank].sqrt()
    return LowRank(u[:, :rank] * root, root[:, None] * vt[:rank])


def layer_name(attention: str, projection: str) -> str:
    """The name under which updates hold a projection's weight."""
    return f"{attention}.{projection}.weight"


def base_weight(
    base: Mapping[str, torch.Tensor], layer: str, shape: tuple[int, ...]
) -> torch.Tensor:
    """W0 of a layer.

    Raises:
        UpdateError: the base lacks the layer or has it in another shape.
    """
    if layer not in base:
        raise UpdateError(f"layer {layer} is not in the base; the update belongs to another model")
    if tuple(base[layer].shape) != tuple(shape):
        raise UpdateError(
            f"layer {layer}: the update has shape {tuple(shape)}, the base "
            f"{tuple(base[layer].shape)}; they are not the same model"
        )
    return base[layer]


def _matrices(
    transform: Transform, adapter: Adapter, attention: str, heads: int, draws: Draws
) -> dict[str, torch.Tensor]:
    for projection in PROJECTIONS:
        if layer_name(attention, projection) not in adapter:
            raise UpdateError(
                f"the adapter has no update of {layer_name(attention, projection)}; post-hoc "
                "defenses transform q, k, v and out in pairs, so train an adapter on all four"
            )
    width = adapter[layer_name(attention, "q_proj")].shape[0] // heads
    return head_matrices(transform, attention, heads, width, draws)
