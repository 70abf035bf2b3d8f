"""The verdicts of an audit: what they mean, and which numbers lead to which (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trap2.attacks import measure

LEAST_ADDED = 1.0
"""Percentage points by which an update alone must be above zero-shot to add something."""

KEPT, WEAKENED, BROKEN, NOT_TRIED = "kept", "weakened", "broken", "not tried"
VERDICTS = {
    KEPT: f"the update has at least {measure.KEPT_ENOUGH:g} % of its accuracy alone",
    WEAKENED: "it has less, but at least half of what it adds to the base model",
    BROKEN: "it has less than that",
    measure.ACQUIRED: "an attacker gets at least half of what the update adds to the base model "
    "and keeps the tasks that he had, or at least half of what his updates add where he is better "
    "off over all tasks",
    measure.EXCLUDED: f"he keeps {measure.KEPT_ENOUGH:g} % of the accuracy on his own tasks and "
    "goes without the update's",
    measure.DESTROYED: "he loses his own tasks, more than he gets",
    measure.UNDEFINED: "the reference adds nothing to the base model, so nothing can be acquired",
    NOT_TRIED: "for the reason given",
}
"""What the verdicts mean, in plain words."""


@dataclass(frozen=True)
class Line:
    """One verdict.

    Attributes:
        check: ``alone``, ``scale``, ``averaging``, ``handling`` or ``attack``.
        name: what was tried, a key within its check.
        title: the same for people.
        verdict: a key of :data:`VERDICTS`.
        text: the numbers, or why it was not tried.
        accuracy: of the update's own task in percent; None where not tried.
        others: mean of the partners' tasks in percent; None where there are none.
    """

    check: str
    name: str
    title: str
    verdict: str
    text: str
    accuracy: float | None = None
    others: float | None = None


@dataclass(frozen=True)
class Level:
    """The update's test accuracies in percent: of the base model, and alone."""

    zero_shot: float
    alone: float

    @property
    def adds(self) -> bool:
        """Whether the update adds something that can be lost or acquired."""
        return self.alone >= self.zero_shot + LEAST_ADDED

    def share(self, accuracy: float) -> float:
        """How much of what the update adds an accuracy has, in percent."""
        return 100 * (accuracy - self.zero_shot) / (self.alone - self.zero_shot)

    def verdict(self, accuracy: float) -> str:
        """Kept, weakened or broken."""
        if accuracy >= measure.KEPT_ENOUGH / 100 * self.alone:
            return KEPT
        half = self.adds and self.share(accuracy) >= measure.ACQUIRED_ENOUGH
        return WEAKENED if half else BROKEN


@dataclass(frozen=True)
class Reference:
    """What an attacker's merge is measured against.

    Attributes:
        accuracies: by task in percent, of which acquired and kept are shares.
        without: mean over all tasks of the partners' merge without the update; None where the
            unprotected update is known, so that the verdict is that of the threats table.
        halfway: mean over the partners' tasks, half of the way from the base model to
            ``accuracies``.
    """

    accuracies: Mapping[str, float]
    without: float | None = None
    halfway: float = 0.0

    def verdict(self, found: measure.Outcome) -> str:
        """One of :data:`trap2.attacks.measure.VERDICTS`, or ``undefined``.

        Any merge costs the tasks in it something, so without the unprotected merge to compare
        with, an attacker who is better off over all tasks, and has at least half of what his own
        updates add, counts as one who keeps his own.
        """
        if self.without is None or found.acquired is None:
            return found.verdict
        half = found.acquired >= measure.ACQUIRED_ENOUGH and found.others >= self.halfway
        return measure.ACQUIRED if half and found.average > self.without else found.verdict
