"""Attacks on the protected update alone remove what was planted; PEFT's merges are PEFT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stages import TASKS, tiny_stage
from trap2.attacks.peft_merges import merged_by_peft
from trap2.attacks.reshaping import (
    interpolation,
    large_dropped,
    large_kept,
    noisy,
    signs_kept,
    truncated,
)
from trap2.attacks.stage import Stage
from trap2.updates.adapters import write_adapter
from trap2.updates.delta import LowRank, Update, UpdateError, dense

F64 = torch.float64


def directions(rows: int, columns: int, strengths: list[float]) -> tuple[torch.Tensor, ...]:
    """Orthonormal directions and their strengths: U, S and V of a matrix U S Vᵀ."""
    generator = torch.Generator().manual_seed(5)
    u, v = (
        torch.linalg.qr(torch.randn(n, len(strengths), generator=generator, dtype=F64))[0]
        for n in (rows, columns)
    )
    return u, torch.tensor(strengths, dtype=F64), v


@pytest.mark.parametrize("low_rank", [True, False])
def test_the_strongest_directions_are_without_a_planted_weak_one(low_rank: bool) -> None:
    u, s, v = directions(9, 7, [5.0, 3.0, 1.0])
    # The factors are mixed: none of their columns is a singular direction.
    mix = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    planted = LowRank(u * s @ mix, torch.linalg.inv(mix) @ v.mT)
    update: Update = {"w": planted if low_rank else planted.dense(F64)}
    cut = truncated(update, 2)["w"]
    assert isinstance(cut, LowRank) == low_rank
    found = cut.dense(F64) if isinstance(cut, LowRank) else cut
    torch.testing.assert_close(found, (u * s)[:, :2] @ v[:, :2].mT, rtol=1e-10, atol=1e-10)


def test_directions_of_a_convolution_and_of_a_bias() -> None:
    update: Update = {"conv": torch.randn(4, 3, 2, 2), "bias": torch.randn(4)}
    cut = truncated(update, 1)
    assert torch.linalg.matrix_rank(dense(cut["conv"]).flatten(1)) == 1
    assert dense(cut["conv"]).shape == (4, 3, 2, 2)
    assert torch.equal(dense(cut["bias"]), dense(update["bias"]))


def test_large_entries_are_kept_or_dropped() -> None:
    values = torch.arange(-10.0, 10.0).reshape(4, 5)
    update: Update = {"w": values, "v": -values}
    # int(20 · 24 / 100) + 1 = 5 of 20: −10, ±9 and ±8.  Planted outliers go, the others stay.
    kept, dropped = large_kept(update, 24)["w"], large_dropped(update, 24)["w"]
    assert sorted(dense(kept)[dense(kept) != 0].tolist()) == [-10, -9, -8, 8, 9]
    assert torch.equal(dense(kept) + dense(dropped), values)
    assert float(dense(dropped).abs().max()) == 7
    assert torch.equal(dense(large_kept(update, 100)["w"]), values)


def test_signs_that_differ_go() -> None:
    mine: Update = {"w": torch.tensor([[1.0, -2.0, 3.0, -4.0]]), "own": torch.tensor([1.0])}
    others = {"w": torch.tensor([[1.0, 5.0, 0.0, -1.0]])}
    found = signs_kept(mine, others)
    assert dense(found["w"]).tolist() == [[1.0, 0.0, 3.0, -4.0]]
    assert dense(found["own"]).tolist() == [1.0]


def test_noise_of_a_mean_has_the_size_that_it_should() -> None:
    update: Update = {"w": torch.full((200, 200), 2.0)}
    found = dense(noisy(update, 4, 0.5, np.random.default_rng(0))["w"]) - 2
    # σ √k / (k + 1) with σ = 0.5 · 2.
    assert float(found.std()) == pytest.approx(2 / 5, rel=0.02)
    assert float(found.mean()) == pytest.approx(0, abs=0.01)


def test_interpolation_takes_the_least_share_that_keeps_the_accuracy() -> None:
    """Alone, the update works from 0.4 on."""

    class Sharp(Stage):
        def accuracies_at(self, deltas: Any, coefficients: Any, tasks: Any = None) -> Any:
            if tasks == ["b"]:
                return {"b": 90.0 if coefficients[0] >= 0.4 else 20.0}
            return super().accuracies_at(deltas, coefficients, tasks)

    plain = tiny_stage()
    stage = Sharp(plain.model, plain.tasks, plain.updates, "b", plain.search, plain.references)
    [merge] = interpolation(stage, {"keep": 95.0, "then": "one"})
    assert merge.found["alpha"] == 0.4
    for layer, delta in merge.delta.items():
        a, b, c = (dense(stage.updates[task][layer]) for task in TASKS)
        torch.testing.assert_close(delta, a + 0.4 * b + c)


def adapters(ranks: list[int]) -> list[Update]:
    generator = torch.Generator().manual_seed(2)

    def factor(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    shapes = {"0.weight": (10, 8), "2.weight": (8, 10)}
    return [
        {name: LowRank(factor(m, r), factor(r, n)) for name, (m, n) in shapes.items()}
        for r in ranks
    ]


OF_FACTORS = ("linear", "ties", "dare_linear", "dare_ties", "magnitude_prune")
OF_UPDATES = ("svd", "ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd")
COMBINATIONS = OF_FACTORS + OF_UPDATES


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_merges_are_those_of_adapters_that_peft_loads(combination: str, tmp_path: Path) -> None:
    """The adapters go through files into a PEFT model of the real modules, which merges them."""
    from peft import PeftModel
    from torch import nn

    updates = adapters([3, 3, 3])
    for number, update in enumerate(updates):
        write_adapter(tmp_path / str(number), {k: (d.B, d.A) for k, d in update.items()})  # type: ignore[union-attr]
    density = None if combination in ("linear", "svd") else 0.4
    random = combination.startswith("dare")

    tower = nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 8))
    model: Any = PeftModel.from_pretrained(tower, str(tmp_path / "0"), adapter_name="0")
    for name in ("1", "2"):
        model.load_adapter(str(tmp_path / name), name)
    model.base_model.add_weighted_adapter(
        ["0", "1", "2"], [1.0] * 3, "merged", combination_type=combination, density=density
    )
    state = torch.random.get_rng_state()
    found = merged_by_peft(updates, combination, density=density, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    for place in (0, 2):
        expected = model.base_model.model[place].get_delta_weight("merged")
        mine = found[f"{place}.weight"]
        # Random drops are other draws, of the same law.
        assert torch.allclose(mine, expected, rtol=1e-4, atol=1e-4) != random
    again = merged_by_peft(updates, combination, density=density, seed=3)
    assert all(torch.equal(again[layer], found[layer]) for layer in found)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_one_coefficient_is_equal_weights(combination: str) -> None:
    updates = adapters([3, 3, 3])
    density = None if combination in ("linear", "svd") else 0.4
    # PEFT gives each factor the square root of a weight.
    one, half = (
        merged_by_peft(
            [{k: LowRank(w**0.5 * d.B, w**0.5 * d.A) for k, d in u.items()} for u in updates],
            combination,
            density=density,
            seed=1,
        )
        for w in (1.0, 0.5)
    )
    for layer, delta in one.items():
        torch.testing.assert_close(half[layer], 0.5 * delta, rtol=1e-4, atol=1e-4)


def test_adapters_of_other_ranks_are_filled_up() -> None:
    one, two = adapters([2, 3])
    found = merged_by_peft([one, {"0.weight": two["0.weight"]}], "linear")
    torch.testing.assert_close(found["2.weight"], dense(one["2.weight"]))
    up = torch.cat([one["0.weight"].B, torch.zeros(10, 1)], 1) + two["0.weight"].B  # type: ignore[union-attr]
    down = torch.cat([one["0.weight"].A, torch.zeros(1, 8)]) + two["0.weight"].A  # type: ignore[union-attr]
    torch.testing.assert_close(found["0.weight"], up @ down)


def test_whole_checkpoints_are_refused() -> None:
    with pytest.raises(UpdateError, match="dense, as in a full checkpoint"):
        merged_by_peft([{"0.weight": torch.ones(3, 2)}], "linear")
