"""A search that abandons coefficients finds what one finds that sees every image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from trap2.evaluation.sweep import FEWEST, Sweep
from trap2.evaluation.tasks import Scorer
from trap2.merging.search import NOMINAL, coefficient_grid, search_coefficient, search_options
from trap2.models.scoring import Answers, Score
from trap2.models.task import Batch

COUNTS = {"a": 40, "b": 25, "c": 60}
REFERENCES = {"a": 80.0, "b": 33.3, "c": 97.1}


class Model(nn.Module):
    """Answers as a table says: (point, image) to the logit of the right one of two classes."""

    def __init__(self, table: dict[Any, np.ndarray]) -> None:
        super().__init__()
        self.table, self.point, self.passes = table, None, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes.append(images.tolist())
        return torch.from_numpy(self.table[self.point][images.numpy()])


@dataclass(frozen=True)
class Task:
    first: int
    count: int
    batch_size: int

    def labels(self, _split: str) -> np.ndarray:
        return np.ones(self.count, np.int64)

    def batch(self, _split: str, chosen: np.ndarray) -> Batch:
        return Batch(torch.from_numpy(self.first + chosen), torch.ones(len(chosen), dtype=int))

    def logits(self, output: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros_like(output), output], dim=1)

    def score(self, model: Model, split: str) -> Score:
        output = model(torch.arange(self.first, self.first + self.count))
        return Answers.of(self.logits(output), torch.from_numpy(self.labels(split))).score(
            self.batch_size
        )


def scorer(table: dict[Any, np.ndarray], batch_size: int = 32) -> Scorer:
    tasks, first = {}, 0
    for name, count in COUNTS.items():
        tasks[name] = Task(first, count, batch_size)
        first += count
    return Scorer(Model(table), tasks, REFERENCES)


def searched(scorer: Scorer, *, plain: bool, **how: Any) -> Any:
    sweep = Sweep(scorer)

    def evaluate(s: float) -> float:
        scorer.model.point = s
        return scorer.normalised_accuracy() if plain else sweep.value(s).value

    return search_coefficient(evaluate, **how), sweep


def tables(seed: int, levels: int, step: float, maximum: float) -> dict[float, np.ndarray]:
    """Answers that change slowly over s; with few levels of accuracy, so that values are equal."""
    random = np.random.default_rng(seed)
    n, points = sum(COUNTS.values()), [*coefficient_grid(step, maximum), NOMINAL]
    hard = random.normal(size=n)
    found = {}
    for s in points:
        easy = random.integers(levels) / levels - abs(s - random.uniform(0.3, 1.0))
        noise = random.choice([0.0, 0.3]) * random.normal(size=n)
        found[s] = (easy - hard + noise).astype(np.float32) * 3
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    levels=st.integers(1, 4),
    patience=st.integers(1, 6),
    step=st.sampled_from([0.1, 0.15, 0.3]),
    batch_size=st.sampled_from([8, 32, 500]),
)
def test_a_search_that_abandons_finds_what_the_plain_one_finds(
    seed, levels, patience, step, batch_size
):
    table = tables(seed, levels, step, 1.8)
    how = {"step": step, "maximum": 1.8, "patience": patience}
    wanted, _ = searched(scorer(table, batch_size), plain=True, **how)
    tried = scorer(table, batch_size)
    found, sweep = searched(tried, plain=False, **how)
    assert (found.coefficient, found.value) == (wanted.coefficient, wanted.value)
    assert [s for s, _ in found.trace] == [s for s, _ in wanted.trace]
    assert all(most >= true for (_, most), (_, true) in zip(found.trace, wanted.trace, strict=True))
    seen = sum(map(len, tried.model.passes))
    assert sweep.images == seen <= sweep.every * len(found.trace)
    assert max(map(len, tried.model.passes)) <= batch_size
    tried.model.point = wanted.coefficient
    assert sweep.best == tried.scores("val")


@pytest.mark.parametrize(("late", "chosen"), [(1.0, 1.0), (1.1, 0.5)])
def test_an_equal_value_wins_at_a_smaller_coefficient_alone(late, chosen):
    """s = 1, where the grid lacks it, is tried after larger ones."""
    right = np.ones(sum(COUNTS.values()), np.float32)
    some = right.copy()
    some[5:9] = -1
    table = {0.5: some, 1.1: some, 1.0: some}
    tried = scorer(table)
    sweep = Sweep(tried)
    order = (1.1, 1.0) if late == 1.0 else (0.5, 1.1)
    for s in order:
        tried.model.point = s
        found = sweep.value(s)
    assert (found.scores is not None) == (late == 1.0)
    assert sweep._best is not None
    assert sweep._best.s == chosen


def test_an_option_that_is_no_better_is_abandoned_and_one_that_is_stays():
    good = np.ones(sum(COUNTS.values()), np.float32)
    table = {keep: np.where(np.arange(len(good)) < wrong, -good, good) for keep, wrong in
             ((30, 50), (100, 50), (70, 20), (50, 21))}  # fmt: skip
    tried = scorer(table)
    sweep, abandoned = Sweep(tried), []

    def evaluate(s, options):
        tried.model.point = options["keep"]
        found = sweep.value(s)
        if s == 0.5 and found.scores is None:
            abandoned.append(options["keep"])
        return found.value

    grids = {"keep": (100, 70, 50, 30)}
    found = search_options(evaluate, {"keep": 30}, grids, step=0.5, maximum=1.0, patience=1)
    assert (found.coefficient, found.options) == (0.5, {"keep": 70})
    assert abandoned == [100, 50]
    tried.model.point = 70
    assert sweep.best == tried.scores("val")


def test_what_was_wrong_last_comes_first_and_few_images_decide():
    """100 wrong of 125 at s = 0.2, known from s = 0.1 but for ten: no more than these are seen."""
    n = sum(COUNTS.values())
    margins = np.where(np.arange(n) % 5 == 0, 1.0, -1.0).astype(np.float32)
    worse = margins.copy()
    worse[np.flatnonzero(margins > 0)[:10]] = -1
    tried = scorer({0.1: margins, 0.2: worse}, batch_size=500)
    sweep = Sweep(tried)
    tried.model.point = 0.1
    assert sweep.value(0.1).scores is not None
    tried.model.point = 0.2
    assert sweep.value(0.2).scores is None
    # All that could be wrong had to be seen, and the first pass took no more than that.
    wrong = set(np.flatnonzero(margins < 0))
    assert set(tried.model.passes[1]) == wrong
    assert sweep.images <= n + len(wrong) + FEWEST


def test_a_task_without_validation_images_is_refused():
    table = {0.1: np.ones(200, np.float32)}
    tasks = {"a": Task(0, 0, 8)}
    with pytest.raises(ValueError, match=r"0 images .* do not belong together"):
        Sweep(Scorer(Model(table), tasks, REFERENCES))


def test_a_sample_speaks_against_a_coefficient_that_is_far_worse(monkeypatch):
    for name, count in COUNTS.items():
        monkeypatch.setitem(COUNTS, name, 8 * count)
    n = sum(COUNTS.values())
    good, bad = (np.where(np.arange(n) % 20 < k, -1, 1).astype(np.float32) for k in (9, 18))
    found = []
    for screening in (0.3, 0.0):
        tried = scorer({0.1: good, 0.2: bad}, batch_size=4)
        sweep = Sweep(tried, screening, seed=1)
        for s in (0.1, 0.2):
            tried.model.point = s
            last = sweep.value(s)
        found.append((last, sweep.images - n, sweep.best))
    (screened, few, best), (exact, many, same) = found
    assert screened.screened
    assert not exact.screened
    assert few <= 0.3 * n + len(COUNTS) < many
    assert screened.scores is exact.scores is None
    assert best == same
    # What it can still be by the sample is more than it is.
    tried.model.point = 0.2
    assert tried.normalised_accuracy() < screened.value < Sweep.value(sweep, 0.1).value


def test_the_samples_error_is_the_textbooks_for_strata_drawn_without_replacement():
    """Cochran 1977, Eq. 5.9 with two more observations, one on either side, in each task."""
    random, n = np.random.default_rng(3), sum(COUNTS.values())
    table = scorer({})
    sweep = Sweep(table, 0.4, seed=2)
    right, best = random.random(n) < 0.6, random.random(n) < 0.7
    mean = variance = 0.0
    for k, (name, count) in enumerate(COUNTS.items()):
        mine = np.flatnonzero((sweep._task == k) & sweep._sample)
        assert len(mine) == round(0.4 * count)
        change = 1e4 / len(COUNTS) / REFERENCES[name] * (1.0 * right[mine] - best[mine])
        unit = 1e4 / len(COUNTS) / REFERENCES[name]
        mean += change.mean()
        spread = ((change - change.mean()) ** 2).sum() + 2 * unit**2
        variance += (1 - len(mine) / count) * spread / len(mine) ** 2
    assert sweep._advantage(right, best) == pytest.approx(mean + 4 * np.sqrt(variance))


def test_samples_are_the_seeds_lose_nothing_that_would_be_chosen_and_save_images(monkeypatch):
    """Of 60 searches with a twentieth of 5 000 images none chooses otherwise."""
    for name, count in COUNTS.items():
        monkeypatch.setitem(COUNTS, name, 40 * count)
    first, same, other = (Sweep(scorer({}), 0.3, seed)._sample for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()
    how = {"step": 0.1, "maximum": 1.5, "patience": 4}
    taken = all_of_them = 0
    for seed in range(60):
        table = tables(seed, 4, 0.1, 1.5)
        wanted, exact = searched(scorer(table, 128), plain=False, **how)
        tried = scorer(table, 128)
        sweep = Sweep(tried, 0.05, seed)

        def evaluate(s, tried=tried, sweep=sweep):
            tried.model.point = s
            return sweep.value(s).value

        found = search_coefficient(evaluate, **how)
        assert (found.coefficient, found.value) == (wanted.coefficient, wanted.value)
        taken, all_of_them = taken + sweep.images, all_of_them + exact.images
    assert taken < 0.9 * all_of_them
