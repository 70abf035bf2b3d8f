"""What Theorems A.2 and A.4 need of a set of adapters, measured on a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from torch import nn

from trap2.data.proxy import proxy_sample
from trap2.evaluation.curvature import SampledLoss, along, gradient_norm
from trap2.evaluation.pairs import combination, frobenius_norm
from trap2.evaluation.tasks import Bench
from trap2.evaluation.theorems import (
    CURVATURE_GRID,
    cross_degradation,
    down_scaling,
    weighted_curvature,
)
from trap2.models.task import Task
from trap2.runtime.seeding import numpy_generator
from trap2.updates.delta import Update, dense_layers
from trap2.updates.records import (
    DegradationRecord,
    PairDegradationRecord,
    ScalingRecord,
    TaskScalingRecord,
)

# Two derivatives keep several times the activations of a score: no batch is larger than this, and
# a smaller configured batch size holds here too.
_BATCH = 64


def sampled_loss(task: Task, examples: int, generator: np.random.Generator) -> SampledLoss:
    """The loss on a random sample of a task's test split."""
    chosen = proxy_sample(task.labels("test"), examples, "random", generator)
    size = min(_BATCH, task.batch_size)
    parts = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    return SampledLoss(task, [task.batch("test", part) for part in parts])


@dataclass(frozen=True)
class Landscape:
    """A model W0 and what is measured around it.

    Attributes:
        model: holds W0, and is not changed.
        losses: every task's loss.
    """

    model: nn.Module
    losses: Mapping[str, SampledLoss]

    def _dense(self, update: Update) -> dict[str, torch.Tensor]:
        own = self.model.state_dict()
        return {name: part.to(own[name].device) for name, part in dense_layers(update)}

    def _base(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        own = self.model.state_dict()
        return {name: own[name].detach() for name in names}

    def _moved(self, update: Update) -> dict[str, torch.Tensor]:
        delta = self._dense(update)
        base = self._base(list(delta))
        return {name: base[name] + part for name, part in delta.items()}

    def gradient(self, update: Update, task: str) -> float:
        """‖∇L‖_F at W0 + ΔW, over the weights that the update changes."""
        return gradient_norm(self.model, self._moved(update), self.losses[task])

    def scaling(self, update: Update, task: str) -> list[ScalingRecord]:
        """Theorem A.2 for one update, a record a scale."""
        delta = self._dense(update)
        origin, loss = self._base(list(delta)), self.losses[task]
        at = {u: along(self.model, origin, delta, loss, u) for u in CURVATURE_GRID}
        found = down_scaling(
            {u: point.loss for u, point in at.items()},
            {u: point.curvature for u, point in at.items()},
            at[1.0].slope,
        )
        return [
            {
                "s": each.s,
                "mu": each.mu,
                "epsilon": each.epsilon,
                "bound": each.bound,
                "measured": each.measured,
                "premise": each.premise,
            }
            for each in found
        ]

    def degradation(
        self, own: Update, other: Update, task: str, epsilon: float
    ) -> DegradationRecord:
        """Theorem A.4 for the task of ``own``, averaged with ``other``.

        Args:
            own: ΔW_κ.
            other: ΔW_τ.
            task: κ.
            epsilon: ‖∇L_κ(ΔW_κ)‖_F.
        """
        secant = combination(other, own, 1.0, -1.0)
        half = {name: part / 2 for name, part in self._dense(secant).items()}
        origin, loss = self._moved(own), self.losses[task]
        start, end = (along(self.model, origin, half, loss, u) for u in (0.0, 1.0))
        integral = weighted_curvature(lambda u: along(self.model, origin, half, loss, u).curvature)
        distance = frobenius_norm(secant)
        found = cross_degradation(distance, epsilon, start.slope, integral, start.loss, end.loss)
        return {
            "distance": found.distance,
            "epsilon": found.epsilon,
            "slope": found.slope,
            "mu_hvp": found.mu_hvp,
            "mu_hvp_error": found.mu_hvp_error,
            "mu_profile": found.mu_profile,
            "bound": found.bound,
            "measured": found.measured,
            "guaranteed": found.guaranteed,
        }


def measure_curvature(
    bench: Bench,
    protected: Mapping[str, Update],
    unprotected: Mapping[str, Update],
    *,
    examples: int,
    seed: int,
    log: Callable[[str], None],
) -> tuple[list[TaskScalingRecord], list[PairDegradationRecord]]:
    """What Theorems A.2 and A.4 speak of, for every protected update and every ordered pair.

    Args:
        bench: the base model, which is not changed, with every task's test split.
        protected: every task's protected adapter.
        unprotected: every task's unprotected adapter.
        examples: how many of a test split a loss is measured on.
        seed: the configuration's seed, of the samples.
        log: receives progress.

    Returns:
        Theorem A.2 by task and scale, Theorem A.4 by pair and side.
    """
    landscape = Landscape(
        bench.model,
        {
            name: sampled_loss(task, examples, numpy_generator(seed, "curvature sample", name))
            for name, task in bench.tasks.items()
        },
    )
    sides = {"protected": protected, "unprotected": unprotected}
    slopes = {}
    scalings: list[TaskScalingRecord] = []
    for task in bench.tasks:
        for side, updates in sides.items():
            slopes[side, task] = landscape.gradient(updates[task], task)
        for scaling in landscape.scaling(protected[task], task):
            scalings.append({**scaling, "task": task})
        log(f"{task}: gradient {slopes['protected', task]:.3g}")
    pairs: list[PairDegradationRecord] = []
    for first, second in permutations(bench.tasks, 2):
        one, two = protected[first], unprotected[second]
        for side, task, own, other in (
            ("protected", first, one, two),
            ("unprotected", second, two, one),
        ):
            found = landscape.degradation(own, other, task, slopes[side, task])
            pairs.append(
                {**found, "protected_task": first, "unprotected_task": second, "side": side}
            )
        log(f"{first} with {second}: distance {found['distance']:.3g}")
    return scalings, pairs
