"""Applying an update at a coefficient, and the searches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from trap2.merging.catalogue import METHODS, PUBLISHED_OPTION_GRIDS, check_options
from trap2.merging.search import coefficient_grid, search_coefficient, search_options
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import UpdateError


def model_and_delta() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 2), nn.Flatten(), nn.Linear(5, 4))
    return model, {"0.weight": torch.randn(5, 12), "2.weight": torch.randn(4, 5)}


def test_sets_base_plus_s_delta_from_the_base_each_time() -> None:
    model, delta = model_and_delta()
    base = {name: value.clone() for name, value in model.state_dict().items()}
    with AppliedUpdate(model, delta) as applied:
        for s in (0.3, 7.7, 1.0):
            applied.set(s)
            for name, value in delta.items():
                expected = base[name] + s * value.reshape(base[name].shape)
                torch.testing.assert_close(model.state_dict()[name], expected)
        assert torch.equal(model.state_dict()["2.bias"], base["2.bias"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_restores_bit_for_bit_also_after_an_exception(dtype: torch.dtype) -> None:
    model, delta = model_and_delta()
    model.to(dtype)
    base = {name: value.clone() for name, value in model.state_dict().items()}
    pointers = {name: value.data_ptr() for name, value in model.state_dict().items()}

    def fail() -> None:
        with AppliedUpdate(model, delta) as applied:
            applied.set(1e6)
            assert not torch.equal(model.state_dict()["2.weight"], base["2.weight"])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    for name, value in model.state_dict().items():
        assert torch.equal(value, base[name])
        assert value.data_ptr() == pointers[name]


def test_accepts_layers_one_by_one() -> None:
    model, delta = model_and_delta()
    base = model.state_dict()["2.weight"].clone()
    with AppliedUpdate(model, iter(delta.items())) as applied:
        applied.set(0.5)
        expected = base + 0.5 * delta["2.weight"]
        torch.testing.assert_close(model.state_dict()["2.weight"], expected)


def test_setting_a_scale_records_no_gradients_and_keeps_the_parameters_leaves() -> None:
    """The delta requires a gradient, so an operation outside no_grad would join its graph."""
    model, delta = model_and_delta()
    tracked = {name: value.requires_grad_() for name, value in delta.items()}
    parameters = dict(model.named_parameters())
    with AppliedUpdate(model, tracked) as applied:
        applied.set(0.5)
        assert all(p.is_leaf and p.grad_fn is None for p in parameters.values())
    assert dict(model.named_parameters()).keys() == parameters.keys()
    assert all(model.get_parameter(name) is p for name, p in parameters.items())
    assert all(value.grad is None for value in tracked.values())


def test_update_of_another_base() -> None:
    model, _ = model_and_delta()
    with pytest.raises(UpdateError, match=r"layer 9.weight: the model has no such weight"):
        AppliedUpdate(model, {"9.weight": torch.ones(1)})
    with pytest.raises(UpdateError, match=r"layer 2.weight: .* shape \(5, 4\).* \(4, 5\)"):
        AppliedUpdate(model, {"2.weight": torch.ones(5, 4)})


def test_grid_is_exact_decimals() -> None:
    grid = list(coefficient_grid(0.1, 10.0))
    assert len(grid) == 100
    assert [repr(s) for s in grid[:3]] == ["0.1", "0.2", "0.3"]
    assert repr(grid[-1]) == "10.0"
    assert all(repr(s) == f"{k / 10:.1f}" for k, s in enumerate(grid, 1))
    assert list(coefficient_grid(0.3, 1.0)) == [0.3, 0.6, 0.9]


@pytest.mark.parametrize(
    ("step", "maximum", "message"),
    [
        (0.0, 1.0, "step = 0.0: must be a positive number"),
        (0.1, math.inf, "maximum = inf"),
        (2.0, 1.0, "the grid is empty"),
        (0.1, 1e9, r"a grid of 1e\+10 values; at most 100000"),
        (5e-324, 1e300, "a grid of inf values"),
        (math.nan, 1.0, "step = nan: must be a positive number"),
    ],
)
def test_grid_refuses(step: float, maximum: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coefficient_grid(step, maximum)


def test_stops_after_patience_values_without_improvement() -> None:
    seen: list[float] = []

    def evaluate(s: float) -> float:
        seen.append(s)
        return -abs(s - 2.0)

    found = search_coefficient(evaluate, step=0.1, maximum=10.0, patience=10)
    assert (found.coefficient, found.value) == (2.0, 0.0)
    assert seen == list(coefficient_grid(0.1, 3.0))
    assert found.trace == tuple((s, -abs(s - 2.0)) for s in seen)


def test_nominal_coefficient_is_evaluated_after_an_early_stop() -> None:
    values = {0.1: 5.0, 0.2: 4.0, 0.3: 4.0, 1.0: 9.0}
    found = search_coefficient(values.__getitem__, step=0.1, maximum=10.0, patience=2)
    assert [s for s, _ in found.trace] == [0.1, 0.2, 0.3, 1.0]
    assert found.coefficient == 1.0


def test_nominal_coefficient_is_evaluated_when_the_grid_lacks_it() -> None:
    found = search_coefficient(lambda s: -abs(s - 1), step=0.3, maximum=2.0, patience=10)
    assert found.coefficient == 1.0


def test_equal_values_keep_the_smaller_coefficient() -> None:
    found = search_coefficient(lambda s: float(s >= 0.4), step=0.1, maximum=10.0, patience=10)
    assert found.coefficient == 0.4
    assert found.trace[-1][0] == 1.4


def test_search_refuses_nan_and_zero_patience() -> None:
    with pytest.raises(ValueError, match=r"the metric is NaN at s = 0.1"):
        search_coefficient(lambda _: math.nan, step=0.1, maximum=1.0, patience=1)
    with pytest.raises(ValueError, match="patience = 0: must be at least 1"):
        search_coefficient(lambda s: s, step=0.1, maximum=1.0, patience=0)


@given(st.lists(st.integers(0, 5), min_size=30, max_size=30), st.integers(1, 12))
def test_search_against_the_definition(values: list[int], patience: int) -> None:
    """The first maximum among what an exhaustive reading of the rule evaluates."""
    grid = list(coefficient_grid(0.1, 3.0))
    table = dict(zip(grid, map(float, values), strict=True))
    stop = next(
        (
            k
            for k in range(len(grid))
            if k >= patience and max(values[: k - patience + 1]) >= max(values[: k + 1])
        ),
        len(grid) - 1,
    )
    evaluated = sorted({*grid[: stop + 1], 1.0})
    best = max(table[s] for s in evaluated)
    found = search_coefficient(table.__getitem__, step=0.1, maximum=3.0, patience=patience)
    assert sorted(s for s, _ in found.trace) == evaluated
    assert found.value == best
    assert found.coefficient == min(s for s in evaluated if table[s] == best)


def test_options_are_searched_one_after_another_at_the_found_coefficient() -> None:
    calls: list[tuple[float, dict[str, Any]]] = []

    def evaluate(s: float, options: Mapping[str, Any]) -> float:
        calls.append((s, dict(options)))
        return -abs(s - 0.5) - abs(options["drop"] - 0.9) - abs(options["keep"] - 70) / 100

    initial = check_options("TIES+DARE", {})
    grids = PUBLISHED_OPTION_GRIDS["TIES+DARE"]
    found = search_options(evaluate, initial, grids, step=0.1, maximum=10.0, patience=10)
    assert found.coefficient == 0.5
    assert found.options == initial | {"drop": 0.9, "keep": 70}
    assert found.value == 0.0
    sweep = len(found.search.trace)
    assert [options for _, options in calls[:sweep]] == [initial] * sweep
    assert {s for s, _ in calls[sweep:]} == {0.5}
    assert [o["drop"] for _, o in calls[sweep : sweep + 10]] == list(grids["drop"][1:])
    assert [o["keep"] for _, o in calls[sweep + 10 :]] == [k for k in grids["keep"] if k != 30]
    assert {o["drop"] for _, o in calls[sweep + 10 :]} == {0.9}
    assert len(found.trace) == 10 + 9


def test_an_option_changes_only_for_a_better_value() -> None:
    found = search_options(
        lambda _s, _o: 1.0, {"keep": 30.0}, {"keep": (100, 10)}, step=0.1, maximum=1.0, patience=3
    )
    assert found.options == {"keep": 30.0}
    assert found.coefficient == 0.1


def test_a_grid_needs_an_initial_value() -> None:
    with pytest.raises(ValueError, match="option keep of the grid has no initial value"):
        search_options(lambda _s, _o: 1.0, {}, {"keep": (1,)}, step=0.1, maximum=1.0, patience=1)


def test_published_grids_are_options_in_range() -> None:
    for method, grids in PUBLISHED_OPTION_GRIDS.items():
        for name, values in grids.items():
            assert all(METHODS[method].options[name].accepts(value) for value in values)
