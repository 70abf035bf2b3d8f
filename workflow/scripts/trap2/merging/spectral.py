"""Operators on singular vectors: TSV (arXiv:2412.00081) and CART (arXiv:2412.12153)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trap2.updates.delta import LayerUpdate, LowRank

Tensor = torch.Tensor

# Singular values this close (relative) are equal: in KnOTS space all of a task's are, and a cut
# between equal ones would be decided by rounding.
TIED = 1e-9


def thin_svd(core: LayerUpdate, rank: int, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Truncated SVD U, σ, Vᵀ of factors (through QR) or of a matrix.

    Args:
        core: (a, b) matrix or factors.
        rank: at most this many triplets, and those whose σ equals the last one's.
        tolerance: triplets with σ ≤ tolerance · σ_1 are rounding, not update, and are left out.
    """
    if isinstance(core, LowRank):
        left, left_triangle = torch.linalg.qr(core.B)
        right, right_triangle = torch.linalg.qr(core.A.mT)
        u, sigma, vt = torch.linalg.svd(left_triangle @ right_triangle.mT, full_matrices=False)
        u, vt = left @ u, vt @ right.mT
    else:
        u, sigma, vt = torch.linalg.svd(core, full_matrices=False)
    if 0 < rank < len(sigma):
        rank = int((sigma >= (1 - TIED) * sigma[rank - 1]).sum())
    if len(sigma):
        rank = min(rank, int((sigma > tolerance * sigma[0]).sum()))
    return u[:, :rank], sigma[:rank], vt[:rank]


def orthonormal_factor(columns: Tensor, tolerance: float) -> Tensor:
    """The nearest matrix with orthonormal columns (polar factor); (m, n) to (m, n).

    Directions with singular values up to ``tolerance`` times the largest have no nearest vector
    and map to zero: two tasks with one update in common share its direction.
    """
    if columns.shape[1] == 0:
        return columns
    u, sigma, vt = torch.linalg.svd(columns, full_matrices=False)
    kept = sigma > tolerance * sigma[0]
    nearest: Tensor = u[:, kept] @ vt[kept]
    return nearest


def tsv(cores: Sequence[LayerUpdate], rank: int, tolerance: float) -> Tensor:
    """TSV merging: the tasks' leading triplets, their singular vectors made orthonormal together.

    U and V of all tasks are concatenated and each replaced by its polar factor; the singular
    values stay.

    Args:
        cores: one (a, b) matrix or pair of factors a task, in orthonormal coordinates.
        rank: k, triplets a task.
        tolerance: relative size below which a singular value counts as zero; a task gives at most
            as many triplets as its numerical rank.

    Returns:
        (a, b).
    """
    triplets = [thin_svd(core, rank, tolerance) for core in cores]
    u = orthonormal_factor(torch.cat([u for u, _, _ in triplets], 1), tolerance)
    v = orthonormal_factor(torch.cat([vt.mT for _, _, vt in triplets], 1), tolerance)
    sigma = torch.cat([sigma for _, sigma, _ in triplets])
    return (u * sigma) @ v.mT


def tsv_projected(cores: Sequence[LayerUpdate], rank: int, tolerance: float) -> Tensor:
    """TSV as the paper's text reads: project onto an orthonormal basis (QR) of all tasks' U.

    The basis spans every truncated task, so the projection returns their sum.
    """
    triplets = [thin_svd(core, rank, tolerance) for core in cores]
    basis = torch.linalg.qr(torch.cat([u for u, _, _ in triplets], 1))[0]
    truncated = sum((u * sigma) @ vt for u, sigma, vt in triplets)
    merged: Tensor = basis @ (basis.mT @ truncated)
    return merged


def cart(
    cores: Tensor, directions: Tensor, rank: int, scale: float, *, add_mean: bool = True
) -> Tensor:
    """CART: mean + λ_c Σ_i LR_k(core_i − mean).

    Args:
        cores: (N, a, b), in orthonormal coordinates.
        directions: (N, a, ≥ k) left singular vectors of core_i − mean, strongest first.
        rank: k ≥ 1.
        scale: λ_c.
        add_mean: the paper's text leaves the mean out.

    Returns:
        (a, b).
    """
    mean = cores.mean(0)
    deviations = torch.zeros_like(mean)
    for core, singular in zip(cores, directions, strict=True):
        leading = singular[:, :rank].to(cores.dtype)
        # LR_k(X) = U_k U_kᵀ X
        deviations += leading @ (leading.mT @ (core - mean))
    return scale * deviations + mean if add_mean else scale * deviations
