"""The transforms of the post-hoc defenses: what they draw (Appendix D.5), PaRaMS' order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from trap2.protection.mergelock import RandomMixing
from trap2.protection.params import DiagonalScales, farthest_order
from trap2.runtime.seeding import numpy_generator


def test_params_scales_are_uniform():
    generator = numpy_generator(0, "test")
    drawn = [DiagonalScales().draw(64, generator) for _ in range(500)]
    assert all(np.array_equal(T, np.diag(np.diagonal(T))) for T in drawn)
    scales = np.concatenate([np.diagonal(T) for T in drawn])
    assert 0.5 <= scales.min() < 0.501
    assert 1.499 < scales.max() <= 1.5
    # Of U[a, b]: mean (a + b) / 2, variance (b - a)² / 12, and quantiles on a line.
    assert scales.mean() == pytest.approx(1.0, abs=0.006)
    assert scales.var() == pytest.approx(1 / 12, rel=0.03)
    np.testing.assert_allclose(np.quantile(scales, [0.25, 0.5, 0.75]), [0.75, 1, 1.25], atol=0.01)


class Recorded:
    """A generator that keeps what it gave."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.given: dict[str, list[np.ndarray]] = {}

    def __getattr__(self, name: str) -> Callable[..., np.ndarray]:
        def draw(*arguments: Any) -> np.ndarray:
            value = getattr(self.generator, name)(*arguments)
            self.given.setdefault(name, []).append(value)
            return value

        return draw


def test_mergelock_matrices_are_normal_times_permutation_times_log_normal():
    """T = R·P·D: its parts recovered from T by their definition, over many draws."""
    recorded = Recorded(numpy_generator(0, "test"))
    drawn = [RandomMixing().draw(16, recorded) for _ in range(1500)]  # type: ignore[arg-type]
    R, order, D = (
        np.array(recorded.given[part]) for part in ("standard_normal", "permutation", "lognormal")
    )
    for T, r, p, d in zip(drawn[:20], R, order, D, strict=False):
        P = np.zeros((16, 16))
        P[np.arange(16), p] = 1
        np.testing.assert_allclose(T, r @ P @ np.diag(d), rtol=1e-12)
    assert np.mean(R) == pytest.approx(0, abs=0.01)
    assert np.std(R) == pytest.approx(1, rel=0.01)
    assert np.log(D).mean() == pytest.approx(0, abs=0.005)
    assert np.log(D).std() == pytest.approx(0.2, rel=0.02)
    # Uniform: every unit comes to every place equally often (1500 / 16 = 94 times).
    counts = np.array([np.bincount(place, minlength=16) for place in order.T])
    assert counts.min() > 55
    assert counts.max() < 140
    # Seen from T alone: a column's norm² is χ²(16)·d², so its mean is 16·E[d²] = 16·e^{2σ²}.
    norms = np.square(np.array(drawn)).sum(1).mean()
    assert norms == pytest.approx(16 * np.exp(2 * 0.2**2), rel=0.02)


def test_mergelock_scales_are_raised_to_the_floor():
    T = RandomMixing(log_std=100.0).draw(400, numpy_generator(0, "test"))
    norms = np.linalg.norm(T, axis=0)
    # A column of R at the floor has norm 1e-4·√400, give or take; none is smaller.
    assert norms.min() == pytest.approx(1e-4 * 20, rel=0.2)


def test_the_order_of_hidden_units_is_the_farthest_of_all():
    generator = np.random.default_rng(0)
    hidden, inputs, outputs = 6, 4, 3
    for _ in range(10):
        w1, base1 = generator.standard_normal((2, hidden, inputs))
        w2, base2 = generator.standard_normal((2, outputs, hidden))

        def distance(order: Any, w1=w1, w2=w2, base1=base1, base2=base2) -> float:
            first = np.linalg.norm(base1 - w1[list(order)]) ** 2
            return first + np.linalg.norm(base2 - w2[:, list(order)]) ** 2

        found = farthest_order(*(torch.from_numpy(w) for w in (w1, w2, base1, base2)))
        best = max(map(distance, itertools.permutations(range(hidden))))
        assert sorted(found.tolist()) == list(range(hidden))
        assert distance(found.tolist()) == pytest.approx(best, rel=1e-12)
