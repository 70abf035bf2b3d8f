"""Searches of coefficients, on functions whose best point is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from trap2.attacks.searches import Asked, axis, descend, evolve, search_grid
from trap2.runtime.errors import Trap2Error


def bowl(*best: float) -> Callable[[Sequence[float]], float]:
    """Largest at ``best``, and skewed, so that the coordinates depend on each other."""

    def worth(point: Sequence[float]) -> float:
        away = [c - b for c, b in zip(point, best, strict=True)]
        return -sum(a * a for a in away) - 0.5 * sum(away) ** 2

    return worth


def test_an_axis_has_both_ends_and_zero() -> None:
    assert axis(-1, 3, 9) == [-1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert axis(0, 0.3, 4) == [0.0, 0.1, 0.2, 0.3]
    for low, high, points in ((0, 1, 1), (1, 1, 3), (2, 1, 3)):
        with pytest.raises(Trap2Error, match="at least 2 points"):
            axis(low, high, points)


def test_a_grid_finds_its_best_point_and_among_equals_the_first() -> None:
    asked = search_grid(Asked(bowl(0.5, 2.0)), [axis(0, 1, 3), axis(0, 3, 4)])
    assert asked.best == (0.5, 2.0)
    assert asked.evaluations == 12
    flat = search_grid(Asked(lambda _point: 1.0), [axis(0, 1, 3), axis(0, 3, 4)])
    assert flat.best == (0.0, 0.0)


def test_a_point_is_asked_once() -> None:
    calls = []
    asked = Asked(lambda point: calls.append(point) or 0.0)  # type: ignore[func-returns-value]
    asked([0.1 + 0.2, -0.0])
    asked([0.3, 0.0])
    assert calls == [(0.3, 0.0)]


def test_coordinate_descent_finds_the_best_point_to_its_last_step() -> None:
    best = (0.3, -0.7, 1.9, 0.0)
    asked = Asked(bowl(*best))
    asked([1.0] * 4)
    descend(asked, [0.4] * 4, low=[-1] * 4, high=[3] * 4, halvings=14)
    np.testing.assert_allclose(asked.best, best, atol=1e-3)


def test_coordinate_descent_stays_within_its_range_and_limit() -> None:
    asked = Asked(bowl(5.0, -5.0))
    asked([0.0, 0.0])
    descend(asked, [0.3, 0.3], low=[-1, -1], high=[2, 2], halvings=6)
    assert asked.best == (2, -1)
    few = Asked(bowl(5.0, -5.0), limit=3)
    few([0.0, 0.0])
    descend(few, [0.3, 0.3], low=[-9, -9], high=[9, 9], halvings=6)
    assert few.evaluations == 3


def evolved(seed: int, limit: int = 600) -> Asked:
    asked = Asked(bowl(0.3, -0.7, 1.9, 0.0, 1.0), limit=limit)
    asked([0.5] * 5)
    return evolve(asked, 0.3, low=-1, high=3, generator=np.random.default_rng(seed))


def test_cma_es_finds_the_best_point_and_repeats() -> None:
    found = evolved(3)
    np.testing.assert_allclose(found.best, (0.3, -0.7, 1.9, 0.0, 1.0), atol=1e-3)
    assert evolved(3).known == found.known
    assert evolved(4).known != found.known


def test_cma_es_keeps_to_its_limit_and_range_and_leaves_numpys_state_alone() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    found = evolved(0, limit=40)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index] # noqa: NPY002
    assert found.evaluations == 40
    assert all(-1 <= c <= 3 for point in found.known for c in point)
    with pytest.raises(Trap2Error, match="evaluations = 0"):
        evolved(0, limit=0)


def test_a_metric_that_is_no_number_is_refused() -> None:
    with pytest.raises(Trap2Error, match="NaN at the coefficients"):
        Asked(lambda _point: math.nan)([1.0])


def test_cma_es_begins_inside_its_range() -> None:
    asked = Asked(bowl(0.5, 0.5), limit=30)
    asked([3.0, -4.0])
    evolve(asked, 0.3, low=0, high=1, generator=np.random.default_rng(0))
    assert all(0 <= c <= 1 for point in list(asked.known)[1:] for c in point)
    np.testing.assert_allclose(asked.best, (0.5, 0.5), atol=0.1)
