"""Small samples of a task's images, from which data-dependent mergers estimate statistics."""

from __future__ import annotations

import numpy as np

from trap2.runtime.errors import Trap2Error

SAMPLINGS = ("random", "class-stratified")


def proxy_sample(
    labels: np.ndarray, count: int, sampling: str, generator: np.random.Generator
) -> np.ndarray:
    """Which images to take (paper, Appendix D.6: 100 a task).

    ``random`` draws without replacement.  ``class-stratified`` takes one image of every class in
    turn, classes in random order, until there are enough: as many of each class as there are,
    and where the classes are more than ``count``, one image of each of ``count`` random classes.

    Args:
        labels: (n,) the labels of the split.
        count: images to take, at least 1; all of them if there are fewer.
        sampling: one of :data:`SAMPLINGS`.
        generator: the randomness.

    Returns:
        Ascending indices, (min(count, n),).

    Raises:
        ValueError: ``count`` is less than 1, or ``sampling`` is unknown.
    """
    if count < 1:
        raise Trap2Error(f"samples = {count}: must be at least 1")
    if sampling not in SAMPLINGS:
        raise Trap2Error(f"sampling '{sampling}' is unknown; choose from {', '.join(SAMPLINGS)}")
    order = generator.permutation(len(labels))
    if sampling == "class-stratified":
        classes = generator.permutation(np.unique(labels))
        rank_of_class = {label: rank for rank, label in enumerate(classes.tolist())}
        seen: dict[int, int] = {}
        turns = []
        for label in labels[order].tolist():
            seen[label] = seen.get(label, -1) + 1
            turns.append((seen[label], rank_of_class[label]))
        order = order[sorted(range(len(order)), key=turns.__getitem__)]
    return np.sort(order[:count])
