"""Merge spaces: where a merging operator sees the updates (paper, Appendix B.1).

A space is an encoder from the tasks' ΔW_i of one layer to representations M_i on which an
operator acts, together with the way back, :attr:`EncodedLayer.decode`.  LoRA updates are encoded
from their factors: nothing of the size of ΔW is decomposed.

- ``Full``: M_i = ΔW_i.
- ``KnOTS`` (arXiv:2410.19735): [ΔW_1 … ΔW_N] = U Σ [V_1ᵀ … V_Nᵀ], M_i = V_iᵀ, back by U Σ M.
- ``Core`` (arXiv:2509.17786): M_i = U_Bᵀ B_i A_i V_A with U_B, V_A the singular bases of the
  stacked factors, back by U_B M V_Aᵀ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from trap2.updates.delta import LayerUpdate, LowRank, UpdateError

Tensor = torch.Tensor

# Small matrices are decomposed in float64: a trim or a rank cut decides at a threshold, and only
# then do two exact ways to the same matrix decide alike.
EXACT = torch.float64

TIE = 1e-12
"""What the entries of a space may differ by, relative, where exact arithmetic has them equal."""

KNOTS_SINGULAR_FLOOR = 1e-5
"""Singular values of the concatenated updates up to this are dropped (KnOTS' own code)."""


@dataclass(frozen=True, eq=False)
class Reduced:
    """Tasks in orthonormal coordinates, M_i = left · core_i · rightᵀ, core_i small.

    Operators that commute with orthonormal changes of basis (SVD, mean) act on the cores.

    Attributes:
        cores: one a task, (a, b); float64 for factors, the working dtype for dense updates.
        left: (m, a) orthonormal columns, or None for the identity.
        right: (n, b) orthonormal columns, or None for the identity.
        dtype: working dtype of the results.
    """

    cores: tuple[LayerUpdate, ...]
    left: Tensor | None
    right: Tensor | None
    dtype: torch.dtype

    def expand(self, core: Tensor) -> Tensor:
        """The M that is left · core · rightᵀ, in the working dtype."""
        core = core.to(self.dtype)
        if self.right is not None:
            core = core @ self.right.mT
        return core if self.left is None else self.left @ core

    def stacked(self) -> Tensor:
        """All cores as (N, a, b), in the precision in which they are kept."""
        return torch.stack(
            [c.dense(c.B.dtype) if isinstance(c, LowRank) else c for c in self.cores]
        )


def _identity(merged: Tensor) -> Tensor:
    return merged


@dataclass(frozen=True, eq=False)
class EncodedLayer:
    """One layer's updates in a merge space.

    Attributes:
        shape: shape of every M_i, (m, n); (d,) for the bias-like weights of full checkpoints.
        tasks: the M_i, one a task.
        dtype: working dtype of the results.
        eps: float64's machine epsilon when all updates were stored so, else float32's.
        decode: from a merged M of ``shape`` to ΔW, (d_out, d_in).
    """

    shape: tuple[int, ...]
    tasks: tuple[LayerUpdate, ...]
    dtype: torch.dtype
    eps: float
    decode: Callable[[Tensor], Tensor] = _identity

    @property
    def tie(self) -> float:
        """How small a sum of entries is zero beside them (:func:`elementwise.elected_signs`).

        In Full space the entries are the updates' own, and only zero is; the entries of the other
        spaces are computed in float64 and rounded to the working dtype.
        """
        return 0.0 if self.decode is _identity else max(torch.finfo(self.dtype).eps, TIE)

    def dense(self) -> Tensor:
        """All M_i, (N, *shape), in the working dtype; the factors multiplied as they are kept."""
        stack = torch.empty(len(self.tasks), *self.shape, dtype=self.dtype)
        for row, task in zip(stack, self.tasks, strict=True):
            if not isinstance(task, LowRank):
                row.copy_(task)
            elif task.B.dtype == EXACT:
                row.copy_(task.dense(EXACT))
            else:
                torch.matmul(task.B.to(self.dtype), task.A.to(self.dtype), out=row)
        return stack

    def total(self) -> Tensor:
        """Σ_i M_i; one product of the stacked factors when they are low-rank."""
        if not _all_low_rank(self.tasks):
            return self.dense().sum(0)
        factors = [task.to(self.dtype) for task in _low_rank(self.tasks)]
        return torch.cat([f.B for f in factors], 1) @ torch.cat([f.A for f in factors], 0)

    @cached_property
    def centred_directions(self) -> Tensor:
        """Left singular vectors of every reduced core_i − mean, strongest first: (N, a, …).

        Kept, because they are most of CART's work and serve every rank at which it cuts.
        """
        ranks = [task.rank if isinstance(task, LowRank) else max(self.shape) for task in self.tasks]
        sides = [min(side, sum(ranks)) for side in self.shape]
        # What stays is allocated before what goes, so that the heap keeps no holes.
        directions = torch.empty(len(self.tasks), sides[0], min(sides), dtype=self.dtype)
        cores = self.reduced().stacked()
        mean = cores.mean(0)
        for task, core in zip(directions, cores, strict=True):
            task.copy_(torch.linalg.svd(core - mean, full_matrices=False)[0])
        return directions

    def reduced(self) -> Reduced:
        """The M_i in the orthonormal bases that their stacked factors span.

        Made anew at each call: two QRs are cheap, and the bases as large as the factors.
        """
        if not _all_low_rank(self.tasks):
            return Reduced(tuple(self.dense()), None, None, self.dtype)
        factors = [task.to(EXACT) for task in _low_rank(self.tasks)]
        ranks = [task.rank for task in factors]
        left, lefts = _orthonormal([f.B for f in factors], self.shape[0] > sum(ranks))
        right, rights = _orthonormal([f.A.mT for f in factors], self.shape[1] > sum(ranks))
        cores = tuple(LowRank(b, a.mT) for b, a in zip(lefts, rights, strict=True))
        return Reduced(
            cores,
            None if left is None else left.to(self.dtype),
            None if right is None else right.to(self.dtype),
            self.dtype,
        )


def _epsilon(tasks: Sequence[LayerUpdate]) -> float:
    stored = {task.A.dtype if isinstance(task, LowRank) else task.dtype for task in tasks}
    return torch.finfo(torch.float64 if stored == {torch.float64} else torch.float32).eps


def _all_low_rank(tasks: Sequence[LayerUpdate]) -> bool:
    return all(isinstance(task, LowRank) for task in tasks)


def _low_rank(tasks: Sequence[LayerUpdate]) -> list[LowRank]:
    return [task for task in tasks if isinstance(task, LowRank)]


def _orthonormal(blocks: list[Tensor], narrow: bool) -> tuple[Tensor | None, list[Tensor]]:
    """Q and the blocks' coordinates in it; no Q (the blocks as they are) when it saves nothing."""
    if not narrow:
        return None, blocks
    basis, triangle = torch.linalg.qr(torch.cat(blocks, 1))
    return basis, list(triangle.split([block.shape[1] for block in blocks], 1))


def encode_full(tasks: Sequence[LayerUpdate], dtype: torch.dtype = torch.float32) -> EncodedLayer:
    """M_i = ΔW_i; dense tensors of more than two dimensions as (d_out, rest) matrices."""
    matrices = tuple(
        task.flatten(1) if isinstance(task, torch.Tensor) and task.ndim > 2 else task
        for task in tasks
    )
    return EncodedLayer(tuple(matrices[0].shape), matrices, dtype, _epsilon(tasks))


def encode_knots(tasks: Sequence[LayerUpdate], dtype: torch.dtype = torch.float32) -> EncodedLayer:
    """M_i = V_iᵀ, (k, d_in), from the SVD of the d_out × N·d_in concatenation of the updates.

    With B_stack = Q R and A_iᵀ = Q_i R_i, the concatenation is Q (R · blockdiag(R_iᵀ)) · blockdiag
    (Q_iᵀ): the SVD of the small matrix in the middle gives all three factors exactly.  V_iᵀ is kept
    as (Σ⁻¹ Uᵀ B_i) A_i and U Σ as B_stack · H, so that only small matrices are stored.
    """
    factors = _require_low_rank(tasks, "KnOTS")
    triangle = torch.linalg.qr(torch.cat([f.B for f in factors], 1).to(EXACT), mode="r")[1]
    lefts = triangle.split([f.rank for f in factors], 1)
    rights = [torch.linalg.qr(f.A.mT.to(EXACT), mode="r")[1].mT for f in factors]
    middle = torch.cat([left @ right for left, right in zip(lefts, rights, strict=True)], 1)
    u, sigma, vt = torch.linalg.svd(middle, full_matrices=False)
    kept = sigma > KNOTS_SINGULAR_FLOOR
    u, sigma, vt = u[:, kept], sigma[kept], vt[kept]
    blocks = vt.split([right.shape[1] for right in rights], 1)
    back = torch.cat([right @ block.mT for right, block in zip(rights, blocks, strict=True)], 0)
    projections = ((u / sigma).mT @ triangle).split([f.rank for f in factors], 1)
    return EncodedLayer(
        (len(sigma), factors[0].shape[1]),
        tuple(LowRank(p, f.A) for p, f in zip(projections, factors, strict=True)),
        dtype,
        _epsilon(tasks),
        _KnotsDecoder(tuple(f.B for f in factors), back.to(dtype)),
    )


@dataclass(frozen=True)
class _KnotsDecoder:
    """U Σ M = B_stack (H M)."""

    factors: tuple[Tensor, ...]
    back: Tensor

    def __call__(self, merged: Tensor) -> Tensor:
        stack = torch.cat([factor.to(self.back.dtype) for factor in self.factors], 1)
        return stack @ (self.back @ merged)


def encode_core(tasks: Sequence[LayerUpdate], dtype: torch.dtype = torch.float32) -> EncodedLayer:
    """M_i = U_Bᵀ B_i A_i V_A, (min(d_out, Σr), min(d_in, Σr)).

    U_B (left singular vectors of the stacked B) and V_A (right singular vectors of the stacked A)
    come from a QR of each stack and the SVD of its small triangle.
    """
    factors = [task.to(EXACT) for task in _require_low_rank(tasks, "Core")]
    ranks = [factor.rank for factor in factors]
    basis_b, lefts = _singular_basis(torch.cat([f.B for f in factors], 1), ranks)
    basis_a, rights = _singular_basis(torch.cat([f.A for f in factors], 0).mT, ranks)
    cores = tuple(LowRank(b, a.mT) for b, a in zip(lefts, rights, strict=True))
    return EncodedLayer(
        (basis_b.shape[1], basis_a.shape[1]),
        cores,
        dtype,
        _epsilon(tasks),
        _CoreDecoder(basis_b.to(dtype), basis_a.to(dtype)),
    )


def _singular_basis(stack: Tensor, ranks: list[int]) -> tuple[Tensor, list[Tensor]]:
    basis, triangle = torch.linalg.qr(stack)
    rotation = torch.linalg.svd(triangle, full_matrices=False)[0]
    return basis @ rotation, list((rotation.mT @ triangle).split(ranks, 1))


@dataclass(frozen=True)
class _CoreDecoder:
    """U_B M V_Aᵀ."""

    left: Tensor
    right: Tensor

    def __call__(self, merged: Tensor) -> Tensor:
        return self.left @ (merged @ self.right.mT)


def _require_low_rank(tasks: Sequence[LayerUpdate], space: str) -> list[LowRank]:
    factors = _low_rank(tasks)
    if len(factors) != len(tasks):
        raise UpdateError(
            f"the {space} space is made from LoRA factors; dense updates (full checkpoints) merge "
            "in the Full space only"
        )
    return factors


Encoder = Callable[[Sequence[LayerUpdate], torch.dtype], EncodedLayer]

# The merge spaces by name: functions from one layer's updates to what is merged (Appendix B.1).
SPACES: dict[str, Encoder] = {"Full": encode_full, "KnOTS": encode_knots, "Core": encode_core}
