"""What a trained protection is: an objective in place of the task loss alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch

    from trap2.updates.delta import LayerUpdate, Update
    from trap2.updates.trainable import Where

LossAt = Callable[["Where"], "torch.Tensor"]
"""The mini-batch loss of W0 + s·ΔW at a scale s of the update (Eq. 5), or at a point off that line
(:class:`trap2.updates.trainable.Point`), a scalar tensor."""


@runtime_checkable
class PairedLoss(Protocol):
    """A :data:`LossAt` that can find the loss at s = 1 and at a point in one pass."""

    def both(self, where: Where) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The loss at s = 1 and that at the point; None where they take a pass each."""
        ...


class Objective(Protocol):
    """An objective of training, as the training loop uses it."""

    def record(self) -> dict[str, float | str]:
        """The settings as records hold them, as JSON, the trade-off under ``lambda``."""
        ...

    def draw(self, generator: np.random.Generator) -> Any:
        """What one step draws, once for all its micro-batches: TRAP² an off-nominal scale."""
        ...

    def accumulate_gradient(self, loss_at: LossAt, drawn: Any, share: float) -> tuple[float, float]:
        """Add the objective's gradient, times ``share``, to the parameters' ``.grad``.

        Args:
            loss_at: the mini-batch loss at any scale of the update, or at any point.
            drawn: what :meth:`draw` gave for this step.
            share: 1 / (number of micro-batches) under accumulation.

        Returns:
            For the log: the loss at s = 1, and that at the drawn scale, nan where it was not
            computed.
        """
        ...


@dataclass(frozen=True)
class Surroundings:
    """What an objective may look at besides the loss.

    Attributes:
        layers: the update as it is when called, by weight name; detached.
        partners: the other tasks' unprotected updates by task, on the update's device; only for
            protections whose entry asks for them.
        parameters: the trainable tensors by name, those that the optimiser changes: all weights W,
            or an adapter's factors.
        base: W0 by the same names, for a whole checkpoint; an adapter's factors have none.
    """

    layers: Callable[[], Mapping[str, LayerUpdate]]
    partners: Mapping[str, Update] = field(default_factory=dict)
    parameters: Mapping[str, torch.Tensor] = field(default_factory=dict)
    base: Mapping[str, torch.Tensor] = field(default_factory=dict)


@runtime_checkable
class SituatedObjective(Protocol):
    """An objective whose draws depend on the update's layers or on other tasks' updates."""

    def within(self, surroundings: Surroundings) -> Objective:
        """The objective of one training, before its first step.

        Raises:
            Trap2Error: the surroundings lack what it needs.
        """
        ...


def accumulate_gradient(
    loss_at: LossAt, objective: Objective | None, drawn: Any, share: float = 1.0
) -> tuple[float, float]:
    """One step's gradient: the objective's, or that of the task loss alone where there is none.

    Args:
        loss_at: the mini-batch loss at a given scale of the update (Eq. 5), a scalar tensor.
        objective: ``None`` is standard fine-tuning.
        drawn: what the objective drew for this step.
        share: factor on the gradient, 1 / (number of micro-batches) under accumulation.

    Returns:
        The nominal and the off-nominal loss, unweighted (nan where it is not computed).
    """
    if objective is not None:
        return objective.accumulate_gradient(loss_at, drawn, share)
    nominal = loss_at(1.0)
    (share * nominal).backward()
    return nominal.item(), math.nan
