"""Two strengthenings of TRAP² (ours): a scale for every layer, and a direction besides the scale.

TRAP² makes one line of weights sensitive, W0 + s·ΔW.  Who merges with a coefficient a layer, or
keeps s = 1 and adds other updates, leaves that line.  These objectives draw their off-nominal
weights off it.  They are compared, not recommended; no suite trains them unless it names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
import torch

from trap2.protection.objective import LossAt, Surroundings
from trap2.protection.trap2 import Trap2, accumulate_terms
from trap2.runtime.errors import Trap2Error
from trap2.updates.delta import LayerUpdate, LowRank, Update
from trap2.updates.trainable import Point

OTHERS = ("noise", "task")
"""What ``trap2-mixed`` adds: noise of the update's norm, or another task's unprotected update."""


@dataclass(frozen=True)
class LayerwiseTrap2:
    """L(W0 + ΔW) − λ · w̄ · L(W0 + (s_l · ΔW_l)_l), every s_l drawn by TRAP²'s law (ours).

    w̄ is the mean of w(s_l) over the layers: its expectation is that of TRAP²'s w(s) whatever the
    number of layers, so that a λ weighs the two terms as there.  With equal s_l it is TRAP².

    Attributes:
        law: λ, w(s) and the law of s.
        surroundings: the training's, set by :meth:`within`.
    """

    law: Trap2
    surroundings: Surroundings | None = None

    def record(self) -> dict[str, float | str]:
        """The settings as records hold them, λ under ``lambda``."""
        return {**self.law.record(), "name": "trap2-layers"}

    def within(self, surroundings: Surroundings) -> LayerwiseTrap2:
        """The same objective, knowing the layers that it draws for."""
        return LayerwiseTrap2(self.law, surroundings)

    def draw(self, generator: np.random.Generator) -> Point:
        """One scale for every layer (weight tensor of a whole checkpoint), in their order."""
        layers = _known(self.surroundings).layers()
        return Point({layer: self.law.draw_scale(generator) for layer in layers})

    def off_nominal_weight(self, drawn: Point) -> float:
        """λ · w̄."""
        weights = [self.law.off_nominal_weight(s) for s in drawn.scales.values()]
        return sum(weights) / len(weights)

    def accumulate_gradient(
        self, loss_at: LossAt, drawn: Point, share: float = 1.0
    ) -> tuple[float, float]:
        """As :meth:`trap2.protection.trap2.Trap2.accumulate_gradient`."""
        return accumulate_terms(loss_at, drawn, self.off_nominal_weight(drawn), share)


@dataclass(frozen=True)
class MixedDraw:
    """What a step of :class:`MixedTrap2` draws: s, and W0 + s·ΔW + D with all that it adds."""

    s: float
    point: Point


@dataclass(frozen=True)
class MixedTrap2:
    """L(W0 + ΔW) − λ · w(s) · L(W0 + s·ΔW + c·D), D a constant direction drawn each step (ours).

    In a share ``pinned`` of the steps s is 1, where an attacker who knows TRAP² keeps it; in the
    others it is TRAP²'s s.  c is uniform on [other_min, other_max].  D is another task's
    unprotected update, each task as likely as another, or Gaussian noise that has in every layer
    the form (the rank) and the Frobenius norm of ΔW_l at that step.  No gradient flows through D.

    Attributes:
        law: λ, w(s) and the law of s.
        other: a name of :data:`OTHERS`.
        pinned: share of the steps with s = 1, 0 … 1.
        other_min, other_max: range of c, 0 ≤ other_min ≤ other_max, other_max > 0.
        surroundings: the training's, set by :meth:`within`.

    Raises:
        Trap2Error: a setting is out of its range.
    """

    law: Trap2
    other: str = "noise"
    pinned: float = 0.5
    other_min: float = 0.1
    other_max: float = 1.0
    surroundings: Surroundings | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.other not in OTHERS:
            raise Trap2Error(f"other is '{self.other}'; it must be one of {', '.join(OTHERS)}")
        if not 0 <= self.pinned <= 1:
            raise Trap2Error(f"pinned is {self.pinned}; it must lie between 0 and 1")
        if not (0 <= self.other_min <= self.other_max and 0 < self.other_max < float("inf")):
            raise Trap2Error(
                f"other_min is {self.other_min} and other_max {self.other_max}; they must be a "
                "range of numbers ≥ 0 that does not end at 0. Lower other_min or raise other_max"
            )

    def record(self) -> dict[str, float | str]:
        """The settings as records hold them, λ under ``lambda``.

        Within a training the partners' digest too: no run goes on from one with other partners.
        """
        found: dict[str, float | str] = {
            **self.law.record(),
            "name": "trap2-mixed",
            "other": self.other,
            "pinned": self.pinned,
            "other_min": self.other_min,
            "other_max": self.other_max,
        }
        if self.surroundings is not None and self.other == "task":
            found["partners_sha256"] = _digest(self.surroundings.partners)
        return found

    def within(self, surroundings: Surroundings) -> MixedTrap2:
        """The same objective, knowing the update and its partners.

        Raises:
            Trap2Error: ``other`` is ``task``, and no other task's update is there.
        """
        if self.other == "task" and not surroundings.partners:
            raise Trap2Error(
                "trap2-mixed with other = task adds other tasks' unprotected updates, and there is "
                "none. Give at least one, or set other to noise"
            )
        return replace(self, surroundings=surroundings)

    def draw(self, generator: np.random.Generator) -> MixedDraw:
        """One s, one c and one D."""
        known = _known(self.surroundings)
        layers = known.layers()
        pinned = generator.uniform() < self.pinned
        s = 1.0 if pinned else self.law.draw_scale(generator)
        c = generator.uniform(self.other_min, self.other_max)
        if self.other == "noise":
            added = {layer: _noise(delta, c, generator) for layer, delta in layers.items()}
        else:
            tasks = sorted(known.partners)
            partner = known.partners[tasks[generator.integers(len(tasks))]]
            added = {layer: _times(delta, c) for layer, delta in partner.items()}
        return MixedDraw(s, Point(dict.fromkeys(layers, s), added))

    def accumulate_gradient(
        self, loss_at: LossAt, drawn: MixedDraw, share: float = 1.0
    ) -> tuple[float, float]:
        """As :meth:`trap2.protection.trap2.Trap2.accumulate_gradient`."""
        weight = self.law.off_nominal_weight(drawn.s)
        return accumulate_terms(loss_at, drawn.point, weight, share)


def _known(surroundings: Surroundings | None) -> Surroundings:
    if surroundings is None:
        raise Trap2Error("this objective draws for an update's layers; call within(…) first")
    return surroundings


def _times(delta: LayerUpdate, factor: float) -> LayerUpdate:
    return LowRank(delta.B * factor, delta.A) if isinstance(delta, LowRank) else delta * factor


def _noise(delta: LayerUpdate, factor: float, generator: np.random.Generator) -> LayerUpdate:
    """Noise of a layer's form, with ``factor`` times its norm; zero where ΔW_l is."""
    if isinstance(delta, LowRank):
        drawn = LowRank(_normal(delta.B, generator), _normal(delta.A, generator))
        return _times(drawn, factor * _norm(delta) / _norm(drawn))
    noise = _normal(delta, generator)
    return _times(noise, factor * _norm(delta) / _norm(noise))


def _norm(delta: LayerUpdate) -> float:
    matrix = delta.dense(delta.B.dtype) if isinstance(delta, LowRank) else delta
    return float(torch.linalg.vector_norm(matrix))


def _normal(like: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    # Drawn on the CPU, so that the device does not change what is drawn.
    return like.new_tensor(generator.standard_normal(tuple(like.shape)))


def _digest(partners: Mapping[str, Update]) -> str:
    found = sha256()
    for task in sorted(partners):
        for layer, delta in partners[task].items():
            found.update(f"{task} {layer}".encode())
            parts = (delta.B, delta.A) if isinstance(delta, LowRank) else (delta,)
            for part in parts:
                found.update(part.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
