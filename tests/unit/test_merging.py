"""Properties of the operators and their edge cases."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trap2.merging.catalogue import METHODS, Method, data_free_methods
from trap2.merging.elementwise import ties
from trap2.merging.merger import Merger
from trap2.updates.delta import LowRank, Update, UpdateError

F64 = torch.float64
SHAPES = {"q": (12, 9), "fc": (7, 16)}
CELLS = [(name, space) for name in data_free_methods() for space in METHODS[name].spaces]
RANDOM = {"DARE", "TIES+DARE"}


def lora(ranks: list[int], seed: int, dtype: torch.dtype = F64) -> list[Update]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            name: LowRank(
                torch.randn(d_out, r, generator=generator, dtype=F64).to(dtype),
                torch.randn(r, d_in, generator=generator, dtype=F64).to(dtype),
            )
            for name, (d_out, d_in) in SHAPES.items()
        }
        for r in ranks
    ]


def dense(updates: list[Update]) -> list[Update]:
    return [
        {n: u.dense(F64) if isinstance(u, LowRank) else u for n, u in update.items()}
        for update in updates
    ]


def assert_same(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-9
) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


ranks = st.lists(st.integers(1, 3), min_size=1, max_size=4)
seeds = st.integers(0, 10_000)


@pytest.mark.parametrize(("method", "space"), [c for c in CELLS if c[0] not in RANDOM])
@given(ranks=ranks, seed=seeds)
@settings(max_examples=8, deadline=None)
def test_order_of_the_tasks_changes_nothing(
    method: str, space: str, ranks: list[int], seed: int
) -> None:
    updates = lora(ranks, seed)
    merged = Merger(updates, space, F64).merge(method)
    assert_same(Merger(updates[::-1], space, F64).merge(method), merged)


@given(ranks=ranks, seed=seeds)
@settings(max_examples=8, deadline=None)
def test_order_of_the_tasks_changes_no_bit_of_ties_in_float32(ranks: list[int], seed: int) -> None:
    updates = dense(lora(ranks, seed))
    merged = Merger(updates).merge("TIES", keep=50)
    for name, value in Merger(updates[::-1]).merge("TIES", keep=50).items():
        assert torch.equal(value, merged[name])


@pytest.mark.parametrize(("method", "space"), CELLS)
@given(ranks=ranks, seed=seeds, exponent=st.integers(-3, 3))
@settings(max_examples=8, deadline=None)
def test_scaling_the_updates_scales_the_merge(
    method: str, space: str, ranks: list[int], seed: int, exponent: int
) -> None:
    """By a power of two, so that rounding scales along and no decision changes."""
    updates = lora(ranks, seed)
    factor = 2.0**exponent
    scaled = [{n: LowRank(u.B * factor, u.A) for n, u in update.items()} for update in updates]
    merged = Merger(updates, space, F64).merge(method)
    expected = {name: factor * value for name, value in merged.items()}
    assert_same(Merger(scaled, space, F64).merge(method), expected)


@given(ranks=ranks, seed=seeds, s=st.floats(-3, 3))
@settings(max_examples=10, deadline=None)
def test_task_arithmetic_is_linear_in_s(ranks: list[int], seed: int, s: float) -> None:
    updates = lora(ranks, seed)
    scaled = [{n: LowRank(s * u.B, u.A) for n, u in update.items()} for update in updates]
    expected = {n: s * v for n, v in Merger(updates, dtype=F64).merge("TA").items()}
    assert_same(Merger(scaled, dtype=F64).merge("TA"), expected)
    averaged = Merger(updates, dtype=F64).merge("WA")
    assert_same(
        {n: len(ranks) * v for n, v in averaged.items()}, Merger(updates, dtype=F64).merge("TA")
    )


@given(ranks=ranks, seed=seeds)
@settings(max_examples=10, deadline=None)
def test_tsv_keeps_every_tasks_leading_singular_values(ranks: list[int], seed: int) -> None:
    updates = lora(ranks, seed)
    for name, merged in Merger(updates, dtype=F64).merge("TSV").items():
        k = min(SHAPES[name]) // len(updates)
        kept = torch.cat(
            [
                torch.linalg.svdvals(update[name].dense(F64))[: min(k, r)]
                for update, r in zip(updates, ranks, strict=True)
            ]
        )
        values = torch.linalg.svdvals(merged)
        torch.testing.assert_close(values[: len(kept)], kept.sort(descending=True)[0])
        assert bool((values[len(kept) :] < 1e-9).all())


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_tsv_full_equals_core_when_the_ranks_fit(seed: int) -> None:
    """N·r ≤ min(d): in Full space k = int(min(d)/N) ≥ r, in Core k = r: both take the rank."""
    updates = lora([2, 2, 2], seed)
    assert_same(
        Merger(updates, "Full", F64).merge("TSV"), Merger(updates, "Core", F64).merge("TSV")
    )


@given(ranks=ranks, seed=seeds, wanted=st.integers(1, 6))
@settings(max_examples=10, deadline=None)
def test_cart_core_equals_full_at_equal_rank(ranks: list[int], seed: int, wanted: int) -> None:
    updates = [{"fc": update["fc"]} for update in lora(ranks, seed)]
    merged = {}
    for space, smaller in (("Full", 7), ("Core", min(7, sum(ranks)))):
        fraction = min(1.0, (min(wanted, smaller) - 0.5) / smaller)
        merged[space] = Merger(updates, space, F64).merge("CART", rank_fraction=fraction, scale=1.7)
    if wanted <= sum(ranks) or sum(ranks) >= 7:
        assert_same(merged["Core"], merged["Full"])


@pytest.mark.parametrize("space", ["Full", "KnOTS", "Core"])
def test_cart_against_its_formula(space: str) -> None:
    """mean + λ Σ LR_k(ΔW_i − mean) on dense matrices; the published code's k and CART's own."""
    updates = lora([2, 3, 1], 3)
    merger = Merger(updates, space, F64)
    for variant, scale, fraction in (
        ("trap2", 0.1, 0.3),
        ("cart", 2.0, 0.3),
        ("cart", 2.0, 0.05),
        ("paper", 1.0, 0.3),
    ):
        merged = merger.merge("CART", variant=variant, rank_fraction=fraction)
        for name, value in merged.items():
            encoded = merger._encoded[name]
            side = fraction * min(encoded.shape)
            k = max(1, int(side)) if variant == "cart" else math.ceil(side)
            tasks = encoded.dense()
            mean = tasks.mean(0)
            expected = torch.zeros_like(mean) if variant == "paper" else mean.clone()
            for task in tasks:
                u, sigma, vt = torch.linalg.svd(task - mean, full_matrices=False)
                expected += scale * (u[:, :k] * sigma[:k]) @ vt[:k]
            torch.testing.assert_close(value, encoded.decode(expected), rtol=1e-9, atol=1e-9)


def test_tsv_variants() -> None:
    """With r ≥ k nothing is decided by rounding: the published code's variant is ours."""
    updates = lora([4, 4, 4], 5)
    merger = Merger([{"q": u["q"]} for u in updates], "Full", F64)
    assert_same(merger.merge("TSV", variant="trap2"), merger.merge("TSV"))
    truncated = []
    for update in updates:
        u, sigma, vt = torch.linalg.svd(update["q"].dense(F64), full_matrices=False)
        truncated.append((u[:, :3] * sigma[:3]) @ vt[:3])
    assert_same(merger.merge("TSV", variant="paper"), {"q": torch.stack(truncated).sum(0)})


@pytest.mark.parametrize("space", ["Full", "KnOTS", "Core"])
def test_tsv_takes_the_numerical_rank_of_the_stored_factors(space: str) -> None:
    """Rank-4 float32 factors of rank-2 updates: what rounding added to their rank is no update."""
    exact = [{"q": update["q"]} for update in lora([2, 2], 5)]
    generator = torch.Generator().manual_seed(1)
    padded: list[Update] = []
    for update in exact:
        factors = update["q"]
        assert isinstance(factors, LowRank)
        mix = torch.randn(2, 4, dtype=F64, generator=generator)
        b, a = factors.B @ mix, torch.linalg.pinv(mix) @ factors.A
        padded.append({"q": LowRank(b.float(), a.float())})
    merged = Merger(padded, space, F64).merge("TSV")
    assert_same(merged, Merger(exact, space, F64).merge("TSV"), 1e-4)


def test_tsv_of_null_space_directions_differs_from_ours() -> None:
    """r < k: the published code takes directions that rounding decides; ours stops at the rank."""
    updates = lora([1, 1], 5)
    merger = Merger(updates, "Full", F64)
    ours, theirs = merger.merge("TSV"), merger.merge("TSV", variant="trap2")
    assert max((ours[n] - theirs[n]).norm() / ours[n].norm() for n in ours) > 0.05


@pytest.mark.parametrize("space", ["Full", "KnOTS", "Core"])
def test_dare_is_unbiased_over_seeds(space: str) -> None:
    """Mean over 400 seeds within 5 standard errors of the sum, entry by entry."""
    updates = [{"q": update["q"]} for update in lora([2, 2], 7)]
    merger = Merger(updates, space, F64)
    drop, runs = 0.5, 400
    draws = torch.stack(
        [merger.merge("DARE", drop=drop, generator_seed=seed)["q"] for seed in range(runs)]
    )
    expected = Merger(updates, "Full", F64).merge("TA")["q"]
    standard_error = draws.std(0) / math.sqrt(runs)
    assert ((draws.mean(0) - expected).abs() <= 5 * standard_error).all()


def test_dare_is_a_function_of_its_seed() -> None:
    merger = Merger(lora([2, 2], 7), "KnOTS")
    once, again = (merger.merge("DARE", drop=0.5) for _ in range(2))
    other = merger.merge("DARE", drop=0.5, generator_seed=1)
    assert all(torch.equal(once[n], again[n]) for n in once)
    assert not torch.equal(once["q"], other["q"])


def test_dare_without_dropping_is_task_arithmetic() -> None:
    updates = lora([2, 3], 7)
    assert_same(
        Merger(updates, "Core", F64).merge("DARE", drop=0.0), Merger(updates, dtype=F64).merge("TA")
    )
    ties_alone = Merger(updates, "Core", F64).merge("TIES", keep=40)
    assert_same(Merger(updates, "Core", F64).merge("TIES+DARE", drop=0.0, keep=40), ties_alone)


def test_ties_over_the_whole_update_is_ties_on_the_flattened_update() -> None:
    updates = dense(lora([2, 2, 2], 4))
    merged = Merger(updates, dtype=F64).merge("TIES", keep=20, variant="ties")
    flat = torch.stack([torch.cat([u[n].flatten() for n in SHAPES]) for u in updates])
    expected = ties(flat, 20).split([math.prod(s) for s in SHAPES.values()])
    assert_same(merged, {n: e.view(SHAPES[n]) for n, e in zip(SHAPES, expected, strict=True)})
    per_matrix = Merger(updates, dtype=F64).merge("TIES", keep=20)
    assert not torch.allclose(per_matrix["q"], merged["q"])


@pytest.mark.parametrize(("method", "space"), CELLS)
def test_one_update_merges_to_itself(method: str, space: str) -> None:
    options = {"TIES": {"keep": 100}, "DARE": {"drop": 0.0}, "TIES+DARE": {"keep": 100, "drop": 0}}
    (update,) = lora([3], 1)
    merged = Merger([update], space, F64).merge(method, **options.get(method, {}))
    assert_same(merged, {n: u.dense(F64) for n, u in update.items()})


@pytest.mark.parametrize(("method", "space"), CELLS)
def test_zero_updates_merge_to_zero(method: str, space: str) -> None:
    zero = {n: LowRank(torch.zeros(d, 2), torch.zeros(2, k)) for n, (d, k) in SHAPES.items()}
    rank_zero = {n: LowRank.zero(shape) for n, shape in SHAPES.items()}
    for updates in ([zero, zero], [rank_zero, zero], [rank_zero]):
        for value in Merger(updates, space).merge(method).values():
            assert torch.equal(value, torch.zeros_like(value))


@pytest.mark.parametrize(("method", "space"), CELLS)
def test_an_update_without_a_layer_counts_as_zero_there(method: str, space: str) -> None:
    one, two = lora([2, 3], 2)
    without = {"fc": two["fc"]}
    zero = without | {"q": LowRank.zero(SHAPES["q"], F64)}
    merged = Merger([one, without], space, F64).merge(method)
    assert_same(merged, Merger([one, zero], space, F64).merge(method))
    if method == "WA":
        torch.testing.assert_close(merged["q"], one["q"].dense(F64) / 2)


@pytest.mark.parametrize(("method", "space"), CELLS)
def test_equal_updates_have_a_defined_merge(method: str, space: str) -> None:
    """Two copies: the mean-like methods give the update back, also TSV (shared directions)."""
    options = {"TIES": {"keep": 100}, "DARE": {"drop": 0.0}, "TIES+DARE": {"keep": 100, "drop": 0}}
    (update,) = lora([2], 1)
    merged = Merger([update, update], space, F64).merge(method, **options.get(method, {}))
    factor = 2 if method in {"TA", "DARE"} else 1
    assert_same(merged, {n: factor * u.dense(F64) for n, u in update.items()})


@pytest.mark.parametrize(("method", "space"), CELLS)
def test_float32_is_close_to_float64(method: str, space: str) -> None:
    updates = lora([3, 2, 3], 11, torch.float32)
    single = Merger(updates, space).merge(method)
    double = Merger(updates, space, F64).merge(method)
    for name, value in single.items():
        assert value.dtype == torch.float32
        assert (value - double[name]).norm() <= 1e-5 * double[name].norm()


@pytest.mark.parametrize("method", data_free_methods())
def test_dense_and_low_rank_updates_merge_alike_in_full_space(method: str) -> None:
    updates = lora([2, 1, 3], 6)
    factored = Merger(updates, dtype=F64).merge(method)
    assert_same(Merger(dense(updates), dtype=F64).merge(method), factored)
    mixed = [dense(updates[:1])[0], *updates[1:]]
    assert_same(Merger(mixed).merge(method), {n: v.float() for n, v in factored.items()}, 1e-4)


@pytest.mark.parametrize("method", data_free_methods())
def test_weights_of_every_shape(method: str) -> None:
    torch.manual_seed(0)
    shapes = {"conv": (6, 3, 2, 2), "bias": (5,), "scale": (), "proj": (4, 4)}
    updates = [{n: torch.randn(s) for n, s in shapes.items()} for _ in range(3)]
    merged = Merger(updates).merge(method)
    assert {n: tuple(v.shape) for n, v in merged.items()} == shapes
    if method in {"WA", "TSV", "CART"}:
        for name in ("bias", "scale"):
            mean = torch.stack([u[name] for u in updates]).mean(0)
            torch.testing.assert_close(merged[name], mean)
    as_matrix = [{"conv": u["conv"].flatten(1)} for u in updates]
    alone = Merger([{"conv": u["conv"]} for u in updates]).merge(method)["conv"]
    torch.testing.assert_close(alone.flatten(1), Merger(as_matrix).merge(method)["conv"])


def test_merging_changes_no_input() -> None:
    updates = dense(lora([2, 2], 8))
    before = [{n: v.clone() for n, v in u.items()} for u in updates]
    for method in data_free_methods():
        Merger(updates, dtype=F64).merge(method)
    for update, copy in zip(updates, before, strict=True):
        assert all(torch.equal(update[n], copy[n]) for n in copy)


def test_a_merger_gives_the_same_after_other_merges() -> None:
    """What it keeps between merges does not leak from one set of options into another."""
    updates = lora([3, 3, 2], 9)
    for space in ("Full", "KnOTS", "Core"):
        merger = Merger(updates, space)
        fractions = (0.5, 0.1, 0.9)
        for fraction, drop in itertools.product(fractions, (0.1, 0.6)):
            for method, options in (
                ("CART", {"rank_fraction": fraction}),
                ("TIES+DARE", {"keep": 100 * fraction, "drop": drop}),
                ("TSV", {}),
            ):
                fresh = Merger(updates, space).merge(method, **options)
                again = merger.merge(method, **options)
                assert all(torch.equal(fresh[n], again[n]) for n in fresh)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda layer: layer.dense()[0].mT, r"Bad in Full space: .* q has shape \(9, 12\)"),
        (lambda layer: layer.dense()[0] / 0, "the merged layer q holds NaN or infinity"),
    ],
)
def test_what_a_method_returns_is_checked(monkeypatch, wrong, message) -> None:
    def merge(layers, options, seed):
        return ((name, wrong(layer)) for name, layer in layers())

    monkeypatch.setitem(METHODS._entries, "Bad", Method(name="Bad", paper="here", layers=merge))
    with pytest.raises(UpdateError, match=message):
        Merger(lora([2, 2], 0)).merge("Bad")
