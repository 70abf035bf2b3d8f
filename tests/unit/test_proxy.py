"""The samples that data-dependent mergers see (Appendix D.6)."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trap2.data.proxy import SAMPLINGS, proxy_sample


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=300),
    st.integers(1, 150),
    st.sampled_from(SAMPLINGS),
    st.integers(0, 5),
)
def test_a_sample_has_distinct_indices_in_order(labels, count, sampling, seed):
    chosen = proxy_sample(np.array(labels), count, sampling, generator(seed))
    assert len(chosen) == min(count, len(labels))
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] >= 0
    assert chosen[-1] < len(labels)


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=300), st.integers(1, 120), st.integers(0, 5)
)
def test_stratified_classes_differ_by_one_at_most_unless_one_runs_out(labels, count, seed):
    array = np.array(labels)
    taken = Counter(array[proxy_sample(array, count, "class-stratified", generator(seed))].tolist())
    for label, there in Counter(labels).items():
        assert taken[label] == there or taken[label] >= max(taken.values()) - 1


def test_more_classes_than_samples_give_one_image_of_each_of_some():
    labels = np.repeat(np.arange(196), 7)
    chosen = proxy_sample(labels, 100, "class-stratified", generator())
    assert len(set(labels[chosen].tolist())) == 100
    other = proxy_sample(labels, 100, "class-stratified", generator(1))
    assert set(labels[chosen].tolist()) != set(labels[other].tolist())


def test_random_sampling_does_not_stratify():
    labels = np.repeat(np.arange(10), 100)
    counts = Counter(labels[proxy_sample(labels, 100, "random", generator())].tolist())
    assert max(counts.values()) > min(counts.values()) + 1


@pytest.mark.parametrize(("count", "sampling"), [(0, "random"), (5, "stratified")])
def test_bad_arguments_are_named(count, sampling):
    with pytest.raises(ValueError, match=r"samples|sampling"):
        proxy_sample(np.zeros(3, dtype=int), count, sampling, generator())
