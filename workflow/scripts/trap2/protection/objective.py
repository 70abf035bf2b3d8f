"""What a trained protection is: an objective in place of the task loss alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

LossAt = Callable[[float], "torch.Tensor"]
"""The mini-batch loss of W0 + s·ΔW at a scale s of the update (Eq. 5), a scalar tensor."""


class Objective(Protocol):
    """An objective of training, as the training loop uses it."""

    def record(self) -> dict[str, float | str]:
        """The settings as records hold them, as JSON, the trade-off under ``lambda``."""
        ...

    def draw(self, generator: np.random.Generator) -> float:
        """What one step draws, once for all its micro-batches: TRAP² an off-nominal scale."""
        ...

    def accumulate_gradient(
        self, loss_at: LossAt, drawn: float, share: float
    ) -> tuple[float, float]:
        """Add the objective's gradient, times ``share``, to the parameters' ``.grad``.

        Args:
            loss_at: the mini-batch loss at any scale of the update.
            drawn: what :meth:`draw` gave for this step.
            share: 1 / (number of micro-batches) under accumulation.

        Returns:
            For the log: the loss at s = 1, and that at the drawn scale, nan where it was not
            computed.
        """
        ...


def accumulate_gradient(
    loss_at: LossAt, objective: Objective | None, drawn: float, share: float = 1.0
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
