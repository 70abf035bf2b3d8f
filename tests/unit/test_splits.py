"""The paper's split rules at the real sizes, on labels alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trap2.data import splits
from trap2.data.catalogue import Dataset, load_catalogue

# Images of the original parts, as their authors count them.
SIZES = {
    "cars": {"train": 8144, "test": 8041},
    "dtd": {"train": 1880, "val": 1880, "test": 1880},
    "eurosat": {"all": 27000},
    "gtsrb": {"train": 26640, "test": 12630},
    "mnist": {"train": 60000, "test": 10000},
    "resisc45": {"train": 18900, "val": 6300, "test": 6300},
    "aircraft": {"train": 3334, "val": 3333, "test": 3333},
    "svhn": {"train": 73257, "test": 26032},
    "sun397": {"train": 19850, "test": 19850},
}
EUROSAT_CLASSES = [3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000]

ROWS = load_catalogue()


def real_labels(task: str) -> dict[str, np.ndarray]:
    if task == "eurosat":
        return {"all": np.repeat(np.arange(10), EUROSAT_CLASSES)}
    return {part: np.arange(n) % ROWS[task].classes for part, n in SIZES[task].items()}


@pytest.mark.parametrize("task", SIZES)
def test_real_counts_follow_from_real_sizes(task: str) -> None:
    chosen = splits.choose(ROWS[task], real_labels(task))
    assert {split: len(selection.indices) for split, selection in chosen.items()} == ROWS[
        task
    ].counts


def test_permutations_are_one_stream_in_the_published_order() -> None:
    stream = np.random.RandomState(420)
    for task, size in [
        ("cars", 8041),
        ("gtsrb", 12630),
        ("mnist", 10000),
        ("sun397", 19850),
        ("svhn", 26032),
    ]:
        order = stream.permutation(size)
        held = int(0.2 * size)
        val, test = splits.hold_out(task, size)
        np.testing.assert_array_equal(val, order[:held])
        np.testing.assert_array_equal(test, order[held:])


def test_first_held_out_images_never_change() -> None:
    assert splits.hold_out("cars", 8041)[0][:5].tolist() == [674, 6476, 4288, 1148, 1327]
    assert splits.hold_out("svhn", 26032)[0][:5].tolist() == [25714, 9001, 17129, 19726, 13108]


@given(st.sampled_from(["cars", "mnist", "svhn", "another"]), st.integers(5, 500))
def test_a_held_out_fifth_is_disjoint_and_complete(task: str, count: int) -> None:
    val, test = splits.hold_out(task, count)
    assert len(val) == int(0.2 * count)
    assert sorted([*val.tolist(), *test.tolist()]) == list(range(count))


def test_proper_cars_trains_on_its_training_images() -> None:
    chosen = splits.choose(ROWS["cars"], real_labels("cars"), cars_train="proper")
    assert chosen["train"].part == "train"
    assert chosen["val"].part == chosen["test"].part == "test"


def test_knots_cars_trains_on_all_test_images() -> None:
    chosen = splits.choose(ROWS["cars"], real_labels("cars"), cars_train="knots")
    proper = splits.choose(ROWS["cars"], real_labels("cars"), cars_train="proper")
    assert chosen["train"].part == "test"
    np.testing.assert_array_equal(chosen["train"].indices, np.arange(8041))
    for split in ("val", "test"):
        np.testing.assert_array_equal(chosen[split].indices, proper[split].indices)


def test_only_cars_has_the_leak() -> None:
    chosen = splits.choose(ROWS["gtsrb"], real_labels("gtsrb"), cars_train="knots")
    assert chosen["train"].part == "train"
    assert len(chosen["train"].indices) == 26640


def test_eurosat_takes_270_of_each_class_and_overlaps_nowhere() -> None:
    labels = real_labels("eurosat")
    chosen = splits.choose(ROWS["eurosat"], labels, seed=0)
    for split in ("val", "test"):
        assert np.bincount(labels["all"][chosen[split].indices]).tolist() == [270] * 10
    together = np.concatenate([selection.indices for selection in chosen.values()])
    np.testing.assert_array_equal(np.sort(together), np.arange(27000))


def test_eurosat_depends_on_the_seed_alone() -> None:
    first, again, other = (
        splits.choose(ROWS["eurosat"], real_labels("eurosat"), seed=seed)["val"].indices
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_class_too_small_to_split_is_named() -> None:
    labels = {"all": np.repeat(np.arange(10), [600] * 9 + [540])}
    with pytest.raises(ValueError, match="class 9 has 540 images"):
        splits.choose(ROWS["eurosat"], labels)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="'leaky'; allowed: proper, knots"):
        splits.choose(ROWS["cars"], real_labels("cars"), cars_train="leaky")
    with pytest.raises(ValueError, match="needs the parts train, val, test; the files lack val"):
        splits.choose(ROWS["dtd"], {"train": np.zeros(3), "test": np.zeros(3)})


@pytest.mark.parametrize(
    ("task", "facts"),
    [
        ("cars", {"rule": "idx", "cars_train": "knots"}),
        ("mnist", {"rule": "idx"}),
        ("eurosat", {"rule": "per_class", "val": 270, "test": 270, "seed": 5}),
    ],
)
def test_the_record_says_what_was_done(task: str, facts: dict[str, object]) -> None:
    row: Dataset = ROWS[task]
    chosen = splits.choose(row, real_labels(task), cars_train="knots", seed=5)
    record = splits.describe(row, chosen, cars_train="knots", seed=5)
    indices = record.pop("splits")
    assert record == {"task": task, **facts}
    assert indices["val"]["indices"] == chosen["val"].indices.tolist()
    assert indices["val"]["part"] == chosen["val"].part
