"""A model validated at one coefficient after another, each on as few images as decide.

A coefficient that cannot be chosen any more, even if the model were right on every image not yet
seen, is abandoned.  Images that the model got most wrong when it last saw them come first: at the
next coefficient it is likely to get them wrong again.  What is chosen is what a validation of
every coefficient on every image would choose (ours).

With screening a coefficient is also abandoned where a seeded sample of the images says that it is
worse than the best one, beyond four standard errors of their paired difference.  That is not exact:
by the normal approximation each coefficient that would be chosen is lost with a chance of at most
3·10⁻⁵, and a search of 50 of them chooses another one with at most 0.2 percent (ours).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from trap2.evaluation.tasks import Scorer
from trap2.models.scoring import (
    Answers,
    Score,
    at_once,
    check_labels,
    device_of,
    in_mixed_precision,
)
from trap2.runtime.seeding import numpy_generator

ERRORS = 4.0
"""Standard errors by which a sample must speak against a coefficient."""

FEWEST = 16
"""Images of a step, if so many are left: fewer take a model as long."""


@dataclass(frozen=True)
class Validated:
    """What a validation gave.

    Attributes:
        value: the normalised accuracy in percent; the most that it can be where it was abandoned.
        scores: every task's; None where it was abandoned.
        screened: whether a sample spoke against it, so that the most is not certain.
    """

    value: float
    scores: dict[str, Score] | None
    screened: bool = False


@dataclass(frozen=True)
class _Best:
    s: float
    value: float
    scores: dict[str, Score]
    right: np.ndarray


class Sweep:
    """Validates a model at one coefficient after another.

    Args:
        scorer: whose model holds the weights to validate whenever it is asked.
        screening: share of each task's images in the sample that screens, 0 … 1; 0 for none.
        seed: with the task's name it decides the sample.

    Attributes:
        images: how many have gone through the model.
        every: how many a validation has.

    Raises:
        Trap2Error: a task has no validation images.
    """

    def __init__(self, scorer: Scorer, screening: float = 0.0, seed: int = 0) -> None:
        self._scorer = scorer
        self._labels = {name: task.labels("val") for name, task in scorer.tasks.items()}
        for labels in self._labels.values():
            check_labels(labels, int(labels.max(initial=0)) + 1)
        counts = [len(labels) for labels in self._labels.values()]
        self.images, self.every = 0, sum(counts)
        self._best: _Best | None = None
        # An image is its task's number and its place there.
        self._task = np.repeat(np.arange(len(counts)), counts)
        self._place = np.concatenate([np.arange(count) for count in counts])
        # By how much its right answer raises the value, in percent.
        references = np.array([scorer.references[name] for name in scorer.tasks])
        self._weight = (1e4 / len(counts) / np.array(counts) / references)[self._task]
        self._last_loss = np.zeros(self.every)
        chosen = [
            numpy_generator(seed, "screening", name).permutation(count) < screening * count
            for name, count in zip(scorer.tasks, counts, strict=True)
        ]
        self._sample = np.concatenate(chosen)

    @property
    def best(self) -> dict[str, Score]:
        """Every task's score at the best value so far, of equal ones at the smallest s.

        Raises:
            ValueError: nothing was validated.
        """
        if self._best is None:
            raise ValueError("nothing was validated")
        return self._best.scores

    def value(self, s: float) -> Validated:
        """Validate the model as it is, with coefficient s, unless an earlier one turns out better.

        A value equal to the best one counts as better at a smaller s alone.
        """
        least, best = -math.inf, self._best
        if best is not None:
            least = best.value if s >= best.s else math.nextafter(best.value, -math.inf)
        right, losses = np.ones(self.every, bool), np.zeros(self.every)
        order = np.argsort(-self._last_loss, kind="stable")
        sampled = self._sample[order]
        if not self._see(order[sampled], right, losses, least):
            return Validated(self._value(right), None)
        if best is not None and sampled.any():
            likely = best.value + self._advantage(right, best.right)
            if likely < least:
                return Validated(likely, None, screened=True)
        if not self._see(order[~sampled], right, losses, least):
            return Validated(self._value(right), None)
        scores, value = self._scores(right, losses), self._value(right)
        if value > least:
            self._best = _Best(s, value, scores, right)
        return Validated(value, scores)

    def _see(self, queue: np.ndarray, right: np.ndarray, losses: np.ndarray, least: float) -> bool:
        """See a queue's images, noting answers and losses; False where more cannot matter.

        Ends as soon as the value can no longer be more than ``least``.
        """
        while len(queue):
            most = self._value(right)
            if most <= least:
                return False
            part, queue = np.split(queue, [self._step(queue, most - least)])
            for images, answers in self._answers(np.sort(part)):
                right[images] = answers.right.cpu().numpy()
                losses[images] = answers.losses.cpu().numpy()
            self._last_loss[part] = losses[part]
        return True

    def _advantage(self, right: np.ndarray, best: np.ndarray) -> float:
        """By how much a value exceeds the best one, by the sample and :data:`ERRORS` at most.

        Of the finite population of each task's images; two images more, one for either side, keep
        the error of a sample without a difference from being zero.
        """
        found = variance = 0.0
        for k in range(len(self._scorer.tasks)):
            mine = self._task == k
            inside = mine & self._sample
            size, count = int(inside.sum()), int(mine.sum())
            if not size:
                return math.inf
            change = right[inside].astype(float) - best[inside]
            weight = self._weight[inside][0] * count / size
            found += weight * change.sum()
            spread = np.square(change).sum() + 2 - change.sum() ** 2 / size
            variance += weight**2 * spread * (1 - size / count)
        return found + ERRORS * math.sqrt(variance)

    def _step(self, queue: np.ndarray, excess: float) -> int:
        """How many images of a queue must be wrong until ``excess`` percent are lost, at least."""
        device = device_of(self._scorer.model)
        largest = min(at_once(task.batch_size, device) for task in self._scorer.tasks.values())
        losses = np.cumsum(self._weight[queue])
        needed = int(np.searchsorted(losses, excess * (1 - 1e-9))) + 1
        size = max(needed, FEWEST)
        # No handful is left over: it takes as long, and one row is multiplied by another kernel.
        return min(size if len(queue) - size >= FEWEST else len(queue), largest)

    @torch.inference_mode()
    def _answers(self, images: np.ndarray) -> Iterator[tuple[np.ndarray, Answers]]:
        """The model's answers to images in ascending order, task by task."""
        self.images += len(images)
        names, tasks = list(self._scorer.tasks), self._scorer.tasks
        rows = {names[k]: np.flatnonzero(self._task[images] == k) for k in range(len(names))}
        rows = {name: mine for name, mine in rows.items() if len(mine)}
        batches = {
            name: tasks[name].batch("val", self._place[images[mine]]) for name, mine in rows.items()
        }
        inputs = torch.cat([batch.inputs for batch in batches.values()])
        output = in_mixed_precision(self._scorer.model, inputs.device)(inputs)
        for name, batch in batches.items():
            # Of all rows, and then this task's: a task with one image has the bits of many.
            logits = tasks[name].logits(output)[torch.from_numpy(rows[name]).to(output.device)]
            check_labels(self._labels[name], logits.shape[1])
            yield images[rows[name]], Answers.of(logits, batch.labels)

    def _value(self, right: np.ndarray) -> float:
        return self._scorer.normalised(self._scores(right))

    def _scores(self, right: np.ndarray, losses: np.ndarray | None = None) -> dict[str, Score]:
        found = {}
        for k, (name, task) in enumerate(self._scorer.tasks.items()):
            mine = right[self._task == k]
            if losses is None:
                found[name] = Score(int(mine.sum()), len(mine), math.nan)
            else:
                known = Answers(torch.from_numpy(mine), torch.from_numpy(losses[self._task == k]))
                found[name] = known.score(task.batch_size)
        return found
