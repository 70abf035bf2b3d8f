"""Spaces: the encoders from factors against the definitions on dense matrices, in float64."""

from __future__ import annotations

import pytest
import torch
from trap2.merging.spaces import SPACES, EncodedLayer, encode_core, encode_full, encode_knots
from trap2.updates.delta import LowRank, UpdateError

F64 = torch.float64


def tasks(
    ranks: list[int], shape: tuple[int, int] = (20, 30), seed: int = 0, dtype: torch.dtype = F64
) -> list[LowRank]:
    generator = torch.Generator().manual_seed(seed)
    return [
        LowRank(
            torch.randn(shape[0], r, generator=generator, dtype=F64).to(dtype),
            torch.randn(r, shape[1], generator=generator, dtype=F64).to(dtype),
        )
        for r in ranks
    ]


# Equal and different ranks; N·r above and below the sides; a missing layer; one update.
CASES = [[3, 3, 3], [1, 4, 2], [4, 0, 3], [5], [12, 13, 14], [25, 3]]


@pytest.mark.parametrize("shape", [(20, 30), (30, 20)])
@pytest.mark.parametrize("ranks", CASES)
@pytest.mark.parametrize("space", SPACES)
def test_every_space_is_lossless(space: str, ranks: list[int], shape: tuple[int, int]) -> None:
    updates = tasks(ranks, shape)
    layer = SPACES[space](updates, F64)
    for encoded, update in zip(layer.dense(), updates, strict=True):
        torch.testing.assert_close(layer.decode(encoded), update.dense(F64), rtol=1e-9, atol=1e-10)
    total = sum(update.dense(F64) for update in updates)
    torch.testing.assert_close(layer.decode(layer.total()), total, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20)])
@pytest.mark.parametrize("ranks", CASES)
@pytest.mark.parametrize("space", SPACES)
def test_reduced_coordinates_are_lossless(
    space: str, ranks: list[int], shape: tuple[int, int]
) -> None:
    layer = SPACES[space](tasks(ranks, shape), F64)
    reduced = layer.reduced()
    for basis in (reduced.left, reduced.right):
        if basis is not None:
            torch.testing.assert_close(basis.mT @ basis, torch.eye(basis.shape[1], dtype=F64))
    for core, encoded in zip(reduced.stacked(), layer.dense(), strict=True):
        torch.testing.assert_close(reduced.expand(core), encoded, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("ranks", CASES)
def test_knots_is_the_svd_of_the_concatenation(ranks: list[int]) -> None:
    updates = tasks(ranks)
    layer = encode_knots(updates, F64)
    u, sigma, vt = torch.linalg.svd(
        torch.cat([update.dense(F64) for update in updates], 1), full_matrices=False
    )
    kept = sigma > 1e-5
    assert layer.shape == (int(kept.sum()), 30)
    ours = torch.cat(list(layer.dense()), 1)
    # Rows are right singular vectors up to their sign: orthonormal, and each one's match.
    torch.testing.assert_close(ours @ ours.mT, torch.eye(len(ours), dtype=F64))
    overlap = ours @ vt[kept].mT
    torch.testing.assert_close(overlap.abs(), torch.eye(len(ours), dtype=F64), atol=1e-8, rtol=0)
    back = layer.decode(torch.eye(len(ours), 30, dtype=F64))
    expected = (u[:, kept] * sigma[kept] * overlap.diagonal().sign())[:, :30]
    torch.testing.assert_close(back[:, : len(ours)], expected, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("ranks", [[3, 3, 3], [1, 4, 2], [12, 13, 14]])
def test_core_is_the_projection_on_the_stacks_singular_vectors(ranks: list[int]) -> None:
    updates = tasks(ranks)
    layer = encode_core(updates, F64)
    left = torch.linalg.svd(torch.cat([t.B for t in updates], 1), full_matrices=False)[0]
    right = torch.linalg.svd(torch.cat([t.A for t in updates], 0), full_matrices=False)[2].mT
    for ours, update in zip(layer.dense(), updates, strict=True):
        expected = (left.mT @ update.B) @ (update.A @ right)
        assert ours.shape == expected.shape
        torch.testing.assert_close(ours.abs(), expected.abs(), atol=1e-9, rtol=1e-7)


def test_singular_values_below_knots_floor_are_dropped() -> None:
    large, small = tasks([2, 2])
    tiny = LowRank(small.B * 1e-8, small.A)
    assert encode_knots([large, tiny]).shape[0] == 2
    assert encode_knots([large, LowRank(small.B * 1e-3, small.A)]).shape[0] == 4


@pytest.mark.parametrize("space", ["KnOTS", "Core"])
def test_dense_updates_have_the_full_space_only(space: str) -> None:
    with pytest.raises(UpdateError, match=f"the {space} space is made from LoRA factors"):
        SPACES[space]([torch.ones(3, 4)], torch.float32)


def test_convolutions_are_matrices_of_their_output_channels() -> None:
    kernel = torch.arange(2 * 3 * 4.0).view(2, 3, 2, 2)
    layer = encode_full([kernel])
    assert layer.shape == (2, 12)
    assert torch.equal(layer.dense()[0], kernel.reshape(2, 12))
    assert encode_full([torch.ones(7)]).shape == (7,)
    assert encode_full([torch.tensor(3.0)]).shape == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("space", SPACES)
def test_half_precision_is_read_exactly(space: str, dtype: torch.dtype) -> None:
    """Half-precision factors are taken at their values; nothing is computed in half precision."""
    halves = tasks([3, 2], dtype=dtype)
    layer: EncodedLayer = SPACES[space](halves, torch.float32)
    assert layer.dense().dtype == torch.float32
    for encoded, half in zip(layer.dense(), halves, strict=True):
        torch.testing.assert_close(
            layer.decode(encoded).double(), half.dense(F64), rtol=1e-5, atol=1e-5
        )
