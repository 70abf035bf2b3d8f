"""The TRAP² objective (paper, Eq. 4–9 and Algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from trap2.protection.objective import PairedLoss, accumulate_gradient
from trap2.protection.settings import WEIGHTINGS as NAMES
from trap2.protection.settings import Trap2Settings, range_problem
from trap2.runtime.errors import Trap2Error

# w(s) of Eq. 8: Section 5 uses 1/s by default, the language-model runs 1/√s.
WEIGHTINGS: dict[str, Callable[[float], float]] = dict(
    zip(NAMES, (lambda s: 1.0 / s, lambda s: 1.0 / math.sqrt(s), lambda s: 1.0), strict=True)
)


@dataclass(frozen=True)
class Trap2:
    """The settings of Eq. 8 and 9.

    Attributes:
        lambda_: λ ≥ 0, the trade-off between standalone utility and sensitivity to scaling.
        weighting: the name of w(s) in :data:`WEIGHTINGS`.
        s_min: the smallest off-nominal scale, 0 < s_min < 1 − delta.
        s_max: the largest off-nominal scale, s_max > 1 + delta.
        delta: the margin around the nominal scale s = 1 that is never drawn, 0 < delta < 1.

    Raises:
        Trap2Error: a setting is out of its range.
    """

    lambda_: float
    weighting: str = Trap2Settings.weighting
    s_min: float = Trap2Settings.s_min
    s_max: float = Trap2Settings.s_max
    delta: float = Trap2Settings.delta

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise Trap2Error(f"λ is {self.lambda_}; it must be a number ≥ 0")
        if self.weighting not in WEIGHTINGS:
            raise Trap2Error(f"w(s) is '{self.weighting}'; it must be one of {list(WEIGHTINGS)}")
        if problem := range_problem(self.s_min, self.s_max, self.delta):
            raise Trap2Error(problem)

    def record(self) -> dict[str, float | str]:
        """The settings as records hold them, λ under ``lambda``."""
        settings = asdict(self)
        return {"name": "trap2", "lambda": settings.pop("lambda_"), **settings}

    def draw_scale(self, generator: np.random.Generator) -> float:
        """One s ~ Unif([s_min, 1 − δ] ∪ [1 + δ, s_max]) (Algorithm 1, line 6).

        One uniform number covers both intervals in proportion to their lengths, which is the
        same law as drawing from [s_min, s_max] and rejecting the margin.
        """
        below = (1 - self.delta) - self.s_min
        above = self.s_max - (1 + self.delta)
        position = generator.uniform(0.0, below + above)
        if position <= below:
            return self.s_min + position
        return 1 + self.delta + (position - below)

    def off_nominal_weight(self, s: float) -> float:
        """λ · w(s), the factor of the off-nominal loss in Eq. 9."""
        return self.lambda_ * WEIGHTINGS[self.weighting](s)

    def draw(self, generator: np.random.Generator) -> float:
        """The off-nominal scale of one step, :meth:`draw_scale`."""
        return self.draw_scale(generator)

    def accumulate_gradient(
        self, loss_at: Callable[[float], torch.Tensor], drawn: float, share: float = 1.0
    ) -> tuple[float, float]:
        """Add the gradient of J = L(W0 + ΔW) − λ · w(s) · L(W0 + s·ΔW) to the ``.grad``.

        The two terms are differentiated one after the other, which needs the activations of one
        pass at a time.  Both passes see the same random state, hence the same dropout mask.

        Args:
            loss_at: the mini-batch loss at a given scale of the update (Eq. 5), a scalar tensor.
            drawn: s, the off-nominal scale of this step.
            share: factor on both terms, 1 / (number of micro-batches) under accumulation.

        Returns:
            The nominal and the unweighted off-nominal loss (nan where λ = 0: it is not computed).
        """
        return accumulate_terms(loss_at, drawn, self.off_nominal_weight(drawn), share)


def accumulate_terms(
    loss_at: Callable[[Any], torch.Tensor], where: Any, weight: float, share: float
) -> tuple[float, float]:
    """Add the gradient of L(W0 + ΔW) − weight · L(where), in one pass or one after the other.

    Args:
        loss_at: the mini-batch loss at a scale of the update or at a point, a scalar tensor.
        where: the off-nominal weights, as ``loss_at`` takes them.
        weight: of the off-nominal term, λ included; 0 leaves its pass out.
        share: factor on both terms.

    Returns:
        The nominal and the unweighted off-nominal loss (nan where it is not computed).
    """
    if weight == 0:
        return accumulate_gradient(loss_at, None, where, share)
    found = loss_at.both(where) if isinstance(loss_at, PairedLoss) else None
    if found is not None:
        nominal, off_nominal = found
        (share * (nominal - weight * off_nominal)).backward()
        return nominal.item(), off_nominal.item()
    before = random_state()
    nominal = loss_at(1.0)
    (share * nominal).backward()
    after = random_state()
    set_random_state(before)
    off_nominal = loss_at(where)
    (-share * weight * off_nominal).backward()
    # A loss that keeps its masks has drawn none the second time.
    set_random_state(after)
    return nominal.item(), off_nominal.item()


def random_state() -> tuple[torch.Tensor, torch.Tensor | None]:
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.get_rng_state(), torch.cuda.get_rng_state() if on_gpu else None


def set_random_state(state: tuple[torch.Tensor, torch.Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
