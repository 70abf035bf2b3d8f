"""TIES' ties are decided by a rule, not by the rounding of a space's bases."""

from __future__ import annotations

import pytest
import torch
from trap2.merging import elementwise
from trap2.merging.merger import Merger
from trap2.updates.delta import LowRank


def update(seed: int, rank: int = 4) -> dict[str, LowRank]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"q": (24, 32), "fc": (40, 24)}
    return {
        name: LowRank(
            torch.randn(out, rank, generator=generator),
            torch.randn(rank, width, generator=generator),
        )
        for name, (out, width) in shapes.items()
    }


def negative(of: dict[str, LowRank]) -> dict[str, LowRank]:
    return {name: LowRank(-part.B, part.A) for name, part in of.items()}


@pytest.mark.parametrize("variant", ["trap2", "ties", "peft"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("space", ["Full", "KnOTS", "Core"])
def test_an_update_and_its_negative_are_nothing_in_every_space(space, dtype, variant):
    for seed in range(20):
        one = update(seed)
        for pair in ([one, negative(one)], [negative(one), one]):
            merged = Merger(pair, space, dtype).merge("TIES", variant=variant, keep=30)
            for name, delta in merged.items():
                assert delta.norm() <= 1e-6 * one[name].dense().norm()


@pytest.mark.parametrize("space", ["Full", "KnOTS", "Core"])
def test_a_third_update_decides_alone(space):
    """Where two cancel, the third's sign is elected, and not that of a rounding."""
    one, third = update(0), update(1)
    merged = Merger([one, negative(one), third], space).merge("TIES", keep=100)
    swapped = Merger([negative(one), one, third], space).merge("TIES", keep=100)
    for name, delta in merged.items():
        difference = (delta - swapped[name]).norm()
        assert difference <= 1e-4 * delta.norm()


def test_the_rule():
    tasks = torch.tensor([[1.0, 1.0, 1e-14, 2.0], [-1.0 - 2**-23, -0.5, 0.0, -2.0]])
    thresholds = torch.zeros(2)
    assert elementwise.elected_signs(tasks, thresholds).tolist() == [-1, 1, 1, 0]
    assert elementwise.elected_signs(tasks, thresholds, 2**-23).tolist() == [0, 1, 0, 0]
