"""Trimming and electing entries, against sorting and by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trap2.merging.elementwise import (
    kept_entries,
    ties,
    trim,
    trim_thresholds,
    whole_update_thresholds,
)

F64 = torch.float64


@pytest.mark.parametrize(
    ("size", "keep", "one_more", "count"),
    [
        (100, 10, True, 11),
        (100, 10, False, 10),
        (384, 30, True, 116),
        (7, 1, True, 1),
        (7, 1, False, 0),
        (100, 99.9, True, 100),
        (100, 100, True, 100),
        (100, 100, False, 100),
    ],
)
def test_count_of_kept_entries(size: int, keep: float, one_more: bool, count: int) -> None:
    assert kept_entries(size, keep, one_more=one_more) == count
    tasks = torch.randn(3, size, dtype=F64)
    kept = trim(tasks, trim_thresholds(tasks, keep, one_more=one_more))
    assert [(row != 0).sum() for row in kept] == [count] * 3


def test_ties_by_hand() -> None:
    tasks = torch.tensor([[3.0, -1.0, 2.0, 0.1], [1.0, 4.0, -2.0, 0.2], [-9.0, 2.0, 0.3, 0.1]])
    # Kept: 2 of 4 each; sums -6, 4, 0 (2 - 2, 0.3 trimmed), 0: majority of signs -, + is 0.
    assert ties(tasks, 25.0).tolist() == [-9.0, 3.0, 0.0, 0.0]
    # Where the sum is zero and there is a majority, it is elected.
    tasks = torch.tensor([[5.0, 1.0, 2.0], [5.0, 1.0, -2.0]])
    assert ties(tasks, 100.0).tolist() == [5.0, 1.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@given(seed=st.integers(0, 10_000), keep=st.sampled_from([0.1, 7.0, 30.0, 55.5, 100.0]))
@settings(max_examples=5, deadline=None)
def test_whole_update_thresholds(dtype: torch.dtype, seed: int, keep: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    layers = [
        torch.randn(3, *shape, generator=generator, dtype=dtype) * 10.0**power
        for shape, power in (((4, 5), 0), ((7,), -30), ((2, 3, 3), 3))
    ]
    flat = torch.cat([layer.flatten(1) for layer in layers], 1)
    count = kept_entries(flat.shape[1], keep)
    expected = flat.abs().sort(1, descending=True)[0][:, count - 1]
    assert torch.equal(whole_update_thresholds(lambda: iter(layers), keep), expected)
