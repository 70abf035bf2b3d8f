"""Where an attack happens: what it is given, how it asks, and what it ends with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from torch import nn

from trap2.attacks.measure import KEPT_ENOUGH
from trap2.attacks.meter import Meter
from trap2.attacks.view import TaskView
from trap2.merging.merger import Merger
from trap2.merging.search import search_coefficient
from trap2.merging.settings import Search
from trap2.models.layers import lora_targets
from trap2.models.task import Batch, Task
from trap2.protection.transforms import attention_heads
from trap2.runtime.errors import Trap2Error
from trap2.runtime.seeding import numpy_generator, seed_of
from trap2.updates.delta import Update

Goal = Literal["mean", "acquire"]
"""What a search maximises on validation images (:meth:`Stage.goal`)."""

Delta = Mapping[str, torch.Tensor]
"""ΔW by weight name; dense, shaped like the weight or (d_out, rest)."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Merge:
    """What an attack ends with, W0 + scale · delta.

    Attributes:
        delta: by weight name, its ΔW with all coefficients but ``scale`` applied.
        scale: a factor on all of it; the coefficient, where there is one for all.
        found: what was chosen, as JSON: coefficients, options.
        budget: images a task and steps (``images``, ``steps``) of a point of a curve; empty for
            an attack that has none; each point is an attack of its own, from nothing.
    """

    delta: Delta
    scale: float = 1.0
    found: Mapping[str, object] = field(default_factory=dict)
    budget: Mapping[str, int] = field(default_factory=dict)


class Stage:
    """What an attacker has, and what he may ask.

    Args:
        model: holds W0; it does so again after every call.
        tasks: by name, with all their splits; an attack sees ``stage.tasks``, views of them
            without ``test``, and ``stage.scored`` are themselves, for whoever scores its merges.
        updates: one a task, as published: that of ``protected`` and the others, unprotected.
        protected: the task whose update he wants.
        search: the search of a coefficient for all (paper, Appendix D.6).
        references: the validation accuracy (percent) by which each task's is divided
            (paper, Appendix D.6).
        seed: the configuration's.
        attack_seed: which repetition this is.
        name: the attack's.

    Raises:
        Trap2Error: there is no such task, or the tasks are not the updates'.
    """

    def __init__(
        self,
        model: nn.Module,
        tasks: Mapping[str, Task],
        updates: Mapping[str, Update],
        protected: str,
        search: Search,
        references: Mapping[str, float],
        *,
        seed: int = 0,
        attack_seed: int = 0,
        name: str = "",
    ) -> None:
        if protected not in updates or set(tasks) != set(updates):
            raise Trap2Error(
                f"protected = {protected!r} with updates of {', '.join(updates)} and tasks "
                f"{', '.join(tasks)}: give one update a task, the protected one among them"
            )
        self.meter = Meter()
        self.model, self.scored, self.updates = model, tasks, updates
        self.tasks: Mapping[str, Task] = {
            task: TaskView(task, tasks[task], self.meter) for task in tasks
        }
        self.protected, self.search, self.references = protected, search, references
        self.seed, self.attack_seed, self.name = seed, attack_seed, name
        self.meter.watch(model)
        self.base = {k: w.detach().clone() for k, w in model.state_dict().items()}
        self.heads = attention_heads(model)
        self.targets = lora_targets(model)
        self._known: dict[str, tuple[object, Meter]] = {}
        self._charged: set[str] = set()

    @property
    def others(self) -> list[str]:
        """The tasks that the attacker has anyway."""
        return [task for task in self.updates if task != self.protected]

    def begin(self, name: str, attack_seed: int) -> None:
        """Let another attack, or repetition, have its own random draws and costs."""
        self.name, self.attack_seed = name, attack_seed
        self.spent()

    def spent(self) -> Meter:
        """What was spent since the last time; what attacks share is charged anew from now on."""
        self._charged.clear()
        return self.meter.take()

    def generator(self, *names: str) -> np.random.Generator:
        """A generator for one named use by this attack, its seed and protected task.

        Its draws are the same whatever the protection.
        """
        return numpy_generator(self.seed, *self._names(names))

    def torch_seed(self, *names: str) -> int:
        """A seed for torch, as :meth:`generator`."""
        return seed_of(self.seed, *self._names(names))

    def _names(self, names: Sequence[str]) -> tuple[str, ...]:
        return ("attack", self.name, str(self.attack_seed), self.protected, *names)

    def sample(self, task: str, count: int, *, labelled: bool) -> Batch:
        """Images of a task's training split, drawn without replacement.

        They depend on the attack's seed and the task alone, and are nested: the first 25 of 100
        are those of 25.

        Args:
            task: its name.
            count: images; all of them if there are fewer.
            labelled: whether the attack looks at their labels; else they are all -1.

        Raises:
            Trap2Error: ``count`` is less than 1.
        """
        if count < 1:
            raise Trap2Error(f"images = {count}: must be at least 1")
        generator = numpy_generator(self.seed, "attack sample", task, str(self.attack_seed))
        order = generator.permutation(len(self.scored[task].labels("train")))[:count]
        self.meter.saw(task, "train", len(order), labelled=labelled)
        batch = self.scored[task].batch("train", order)
        return batch if labelled else replace(batch, labels=torch.full_like(batch.labels, -1))

    def accuracies(self, delta: Delta, scale: float = 1.0) -> dict[str, float]:
        """Every task's validation accuracy (percent) at W0 + scale · delta."""
        return self.accuracies_at([delta], [scale])

    def accuracies_at(
        self,
        deltas: Sequence[Delta],
        coefficients: Sequence[float],
        tasks: Sequence[str] | None = None,
    ) -> dict[str, float]:
        """Validation accuracies (percent) at W0 + Σ_i c_i · delta_i, of all tasks or of some.

        A model that gives NaN or infinity is at 0.

        Raises:
            Trap2Error: a weight is missing, the shapes or the numbers of both differ.
        """
        with _Applied(self.model, self.base, deltas, coefficients) as finite:
            return {task: self._validated(task) if finite else 0.0 for task in tasks or self.tasks}

    def accuracies_if(
        self,
        worthwhile: Callable[[Mapping[str, float]], bool],
        deltas: Sequence[Delta],
        coefficients: Sequence[float],
        tasks: Sequence[str],
    ) -> dict[str, float]:
        """:meth:`accuracies_at`, one task after another, until a merge cannot be worthwhile.

        What is not worthwhile costs only the tasks that show it.

        Args:
            worthwhile: of accuracies that are known or, of tasks not yet scored, 100; if it is
                false of some, it must be of all that are lower.
            deltas: as in :meth:`accuracies_at`.
            coefficients: as in :meth:`accuracies_at`.
            tasks: in the order in which they are scored.

        Returns:
            Accuracies; those of tasks that were not scored any more are 100.
        """
        found = dict.fromkeys(tasks, 100.0)
        for task in tasks:
            if not worthwhile(found):
                break
            found |= self.accuracies_at(deltas, coefficients, [task])
        return found

    def _validated(self, task: str) -> float:
        score = self.tasks[task].score(self.model, "val")
        return score.accuracy if math.isfinite(score.loss) else 0.0

    def goal(
        self, accuracies: Mapping[str, float], kind: Goal = "mean", *, kept: float = KEPT_ENOUGH
    ) -> float:
        """What a search maximises.

        ``mean`` is the paper's: the mean of every task's accuracy over its reference's, percent.
        ``acquire`` is the protected task's accuracy as long as the others' mean is at least
        ``kept`` percent of what they have without it (:meth:`left_out`); else the negative
        shortfall in points.
        """
        if kind == "mean":
            ratios = [accuracies[task] / self.references[task] for task in self.tasks]
            return 100.0 * sum(ratios) / len(ratios)
        wanted = kept / 100 * _mean(self.left_out()[1], self.others)
        found = _mean(accuracies, self.others)
        return accuracies[self.protected] if found >= wanted else found - wanted

    def left_out(self) -> tuple[Merge, dict[str, float]]:
        """The other tasks' updates merged by Task Arithmetic, and its validation accuracies."""

        def make() -> tuple[Merge, dict[str, float]]:
            merge = self._task_arithmetic([self.updates[task] for task in self.others], self.others)
            return merge, self.accuracies(merge.delta, merge.scale)

        return self._once("left out", make)

    def merge_by_ta(self, updates: Mapping[str, Update]) -> Merge:
        """Task Arithmetic with one coefficient, searched as in the paper (Appendix D.6).

        Args:
            updates: by task; what the attacker has made of the published ones.
        """

        def make() -> Merge:
            return self._task_arithmetic(list(updates.values()), list(self.tasks))

        # Several attacks begin with the merge of what was published.
        published = list(updates) == list(self.updates) and all(
            updates[task] is self.updates[task] for task in updates
        )
        return self._once("published", make) if published else make()

    def _task_arithmetic(self, updates: Sequence[Update], tasks: Sequence[str]) -> Merge:
        delta = Merger(updates, "Full").merge("TA")

        best, order = -math.inf, list(tasks)

        def mean(accuracies: Mapping[str, float]) -> float:
            return 100.0 * sum(accuracies[t] / self.references[t] for t in tasks) / len(tasks)

        def evaluate(s: float) -> float:
            nonlocal best
            found = self.accuracies_if(lambda a: mean(a) >= best, [delta], [s], order)
            # What lacks most is likely to decide the next s as well.
            order.sort(key=lambda task: found[task] / self.references[task])
            best = max(best, mean(found))
            return mean(found)

        settings = self.search
        found = search_coefficient(
            evaluate, step=settings.step, maximum=settings.maximum, patience=settings.patience
        )
        return Merge(delta, found.coefficient, {"coefficient": found.coefficient})

    def _once(self, key: str, make: Callable[[], Found]) -> Found:
        """What several attacks compute, once; each of them, and each point, pays for it once."""
        before = self.meter.take()
        if key not in self._known:
            made = make()
            self._known[key] = made, self.meter.take()
        found, cost = self._known[key]
        self.meter.merge(before)
        if key not in self._charged:
            self._charged.add(key)
            self.meter.merge(cost)
        return cast(Found, found)  # what `make` gave under this key


def are_finite(weights: Iterable[torch.Tensor]) -> bool:
    """Whether there is neither NaN nor infinity in any of them."""
    return all(bool(weight.isfinite().all()) for weight in weights)


class _Applied:
    """A context in which a model's weights are W0 + Σ_i c_i · delta_i; W0 is back after it.

    Gives whether they are finite.  A NaN need not reach the model's output: attention drops it.
    """

    def __init__(
        self,
        model: nn.Module,
        base: Mapping[str, torch.Tensor],
        deltas: Sequence[Delta],
        coefficients: Sequence[float],
    ) -> None:
        if len(deltas) != len(coefficients):
            raise Trap2Error(f"{len(deltas)} updates and {len(coefficients)} coefficients")
        self.model, self.base = model, base
        self.deltas, self.coefficients = deltas, coefficients
        self.touched: list[tuple[str, torch.Tensor]] = []

    def __enter__(self) -> bool:
        weights = self.model.state_dict()
        layers = dict.fromkeys(layer for delta in self.deltas for layer in delta)
        for layer in layers:
            if layer not in weights:
                raise Trap2Error(f"layer {layer}: the model has no such weight")
        self.touched = [(layer, weights[layer]) for layer in layers]
        with torch.no_grad():
            for layer, weight in self.touched:
                weight.copy_(self._combined(layer, weight))
        return are_finite(weight for _, weight in self.touched)

    def _combined(self, layer: str, weight: torch.Tensor) -> torch.Tensor:
        # The first as torch.add does it in AppliedUpdate, so that both give the same bits.
        total = self.base[layer]
        for delta, coefficient in zip(self.deltas, self.coefficients, strict=True):
            if layer in delta:
                moved = delta[layer].reshape(weight.shape).to(weight.device, weight.dtype)
                total = torch.add(total, moved, alpha=coefficient)
        return total

    def __exit__(self, *_error: object) -> None:
        with torch.no_grad():
            for layer, weight in self.touched:
                weight.copy_(self.base[layer])


def _mean(values: Mapping[str, float], tasks: Sequence[str]) -> float:
    return sum(values[task] for task in tasks) / len(tasks)
