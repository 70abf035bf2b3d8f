"""The paper's splits (Appendix D.1) as index arithmetic over a dataset's original parts.

A part is one of the dataset's own sets of images in its own order (the ``.mat``, CSV or idx file).
A split is a choice of indices from one part.  Nothing here opens an image.

- ``idx`` (Cars, GTSRB, MNIST, SVHN, SUN397): the train part is the training set; the test part is
  permuted by a fixed stream and its first fifth becomes the validation set.  This gives the index
  files that KnOTS (Stoica et al., 2025) ships.
- ``official`` (DTD, RESISC45, Aircraft): the three parts as they are.
- ``per_class`` (EuroSAT, which has no official split): so many images of each class, drawn with a
  recorded seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trap2.data.catalogue import Dataset
from trap2.data.prepared import SPLITS
from trap2.data.records import RuleRecord, SplitsRecord
from trap2.runtime import seeding
from trap2.runtime.errors import Trap2Error

CARS_TRAIN = ("proper", "knots")

# The stream of permutations is drawn from one generator, test set after test set.
STREAM_SEED = 420


STREAM_SIZES = {"cars": 8041, "gtsrb": 12630, "mnist": 10000, "sun397": 19850, "svhn": 26032}


VALIDATION_FRACTION = 0.2


@dataclass(frozen=True)
class Selection:
    """Images of one split: ``indices`` (n,) int64 into the part named ``part``."""

    part: str
    indices: np.ndarray


def choose(
    dataset: Dataset,
    labels: Mapping[str, np.ndarray],
    *,
    cars_train: str = "proper",
    seed: int = 0,
) -> dict[str, Selection]:
    """The train, val and test selections of a dataset.

    Args:
        dataset: its row; ``dataset.split["rule"]`` decides.
        labels: part → (n,) labels in the original order.
        cars_train: what Cars trains on.  ``proper``: its training images.  ``knots``: all its test
            images, of which val and test are subsets, as the loader behind the published numbers
            did.  Other datasets ignore it.
        seed: of the ``per_class`` rule; the other rules draw nothing of their own.

    Raises:
        ValueError: an unknown ``cars_train``, a missing part, or a class with too few images.
    """
    if cars_train not in CARS_TRAIN:
        raise Trap2Error(f"cars_train is {cars_train!r}; allowed: {', '.join(CARS_TRAIN)}")
    rule = dataset.split["rule"]
    needed = {"idx": ("train", "test"), "official": SPLITS, "per_class": ("all",)}[rule]
    missing = [part for part in needed if part not in labels]
    if missing:
        raise Trap2Error(
            f"{dataset.task}: the '{rule}' rule needs the parts {', '.join(needed)}; the files "
            f"lack {', '.join(missing)}"
        )
    if rule == "official":
        return {part: Selection(part, np.arange(len(labels[part]))) for part in SPLITS}
    if rule == "per_class":
        return _per_class(dataset, labels["all"], seed)
    val, test = hold_out(dataset.task, len(labels["test"]))
    leaks = dataset.split.get("knots_trains_on_test", False) and cars_train == "knots"
    part = "test" if leaks else "train"
    return {
        "train": Selection(part, np.arange(len(labels[part]))),
        "val": Selection("test", val),
        "test": Selection("test", test),
    }


def hold_out(task: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Validation and test indices of the ``idx`` rule.

    The stream draws a permutation for each test set that precedes ``task``'s at that set's real
    size, so every task's permutation is independent of what else is prepared; a task outside the
    stream comes after all of them.

    Args:
        task: its name in the catalogue.
        count: images in its test part (the real size, or a miniature's).
    """
    stream = np.random.RandomState(STREAM_SEED)
    for earlier, size in STREAM_SIZES.items():
        if earlier == task:
            break
        stream.permutation(size)
    order = stream.permutation(count)
    held = int(count * VALIDATION_FRACTION)
    return order[:held], order[held:]


def _per_class(dataset: Dataset, labels: np.ndarray, seed: int) -> dict[str, Selection]:
    quota = {"val": int(dataset.split["val"]), "test": int(dataset.split["test"])}
    generator = seeding.numpy_generator(seed, "split", dataset.task)
    chosen: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for label in range(dataset.classes):
        members = generator.permutation(np.flatnonzero(labels == label))
        if len(members) <= sum(quota.values()):
            raise Trap2Error(
                f"{dataset.task}: class {label} has {len(members)} images; the split takes "
                f"{quota['val']} for validation and {quota['test']} for test and needs some to "
                "train on"
            )
        bounds = np.cumsum([quota["val"], quota["test"]])
        for split, part in zip(("val", "test", "train"), np.split(members, bounds), strict=True):
            chosen[split].append(part)
    return {split: Selection("all", np.sort(np.concatenate(chosen[split]))) for split in SPLITS}


def describe(
    dataset: Dataset, selections: Mapping[str, Selection], *, cars_train: str, seed: int
) -> SplitsRecord:
    """What ``splits.json`` holds: the rule, what it was given, and the indices."""
    rule = dataset.split["rule"]
    facts: RuleRecord = {"task": dataset.task, "rule": rule}
    if rule == "per_class":
        facts |= {"val": dataset.split["val"], "test": dataset.split["test"], "seed": seed}
    if dataset.split.get("knots_trains_on_test", False):
        facts["cars_train"] = cars_train
    return {
        **facts,
        "splits": {
            split: {"part": selection.part, "indices": selection.indices.tolist()}
            for split, selection in selections.items()
        },
    }
