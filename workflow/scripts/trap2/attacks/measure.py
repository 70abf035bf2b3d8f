"""What an attacker got: the protected task, and the others that he had anyway (ours).

The reference is the merge in which nothing is protected, by task arithmetic in Full space, its
coefficient searched on validation.  Light: plain arithmetic on accuracies in percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trap2.runtime.errors import Trap2Error

KEPT_ENOUGH = 95.0
"""Percent of the other tasks' reference accuracy that the attacker must keep; the 95 % below which
the paper's Table 2 marks a merge."""

ACQUIRED_ENOUGH = 50.0
"""Percent of the way from zero-shot to the reference from which on a task counts as acquired."""

LEAST_GAIN = 5.0
"""Percentage points by which the reference must be above zero-shot on the protected task.  The
difference of two accuracies on n images has a standard error of up to √(2 · 0.25 / n), 4.1 points
for the demo's 300: a share of less than that says nothing."""

ACQUIRED, EXCLUDED, DESTROYED, UNDEFINED = "acquired", "excluded", "destroyed", "undefined"
NOT_APPLICABLE = "not applicable"
VERDICTS = (ACQUIRED, EXCLUDED, DESTROYED)
"""Acquired: the attacker has the protected task and keeps the others.  Excluded: he keeps the
others and goes without.  Destroyed: he loses the others.  Where the reference gains nothing on the
protected task, keeping the others is neither (``undefined``); an attack that does not apply to what
was published is ``not applicable``."""


@dataclass(frozen=True)
class Outcome:
    """What one merge gives its maker, all in percent.

    Attributes:
        acquired: share of the way from zero-shot to the reference on the protected task, below 0
            where the merge is worse than the base model, above 100 where it is better than the
            reference; None where the reference gains less than :data:`LEAST_GAIN`.
        kept: the other tasks' mean accuracy, as a share of the reference's.
        protected: accuracy on the protected task.
        others: mean accuracy on the other tasks.
        average: mean accuracy on all tasks.
    """

    acquired: float | None
    kept: float
    protected: float
    others: float
    average: float

    @property
    def verdict(self) -> str:
        """One of :data:`VERDICTS`, or ``undefined``."""
        return verdict(self.acquired, self.kept)


def verdict(acquired: float | None, kept: float) -> str:
    """What two shares in percent come to: one of :data:`VERDICTS`, or ``undefined``."""
    if kept < KEPT_ENOUGH:
        return DESTROYED
    if acquired is None:
        return UNDEFINED
    return ACQUIRED if acquired >= ACQUIRED_ENOUGH else EXCLUDED


def measure(
    merged: Mapping[str, float],
    reference: Mapping[str, float],
    zero_shot: Mapping[str, float],
    protected: str,
) -> Outcome:
    """What a merge gives its maker.

    Args:
        merged: its accuracy by task, in percent.
        reference: the unprotected merge's, on the same tasks.
        zero_shot: the base model's, on the same tasks.
        protected: the protected task.

    Raises:
        Trap2Error: the tasks differ, there is none beside the protected one, or the reference is
            at 0 on all of them.
    """
    if not (merged.keys() == reference.keys() == zero_shot.keys()) or protected not in merged:
        raise Trap2Error(
            f"an attack on {protected} was scored on {', '.join(merged)}, and is compared with a "
            f"merge of {', '.join(reference)} and a base on {', '.join(zero_shot)}; make them anew"
        )
    others = [task for task in merged if task != protected]
    wanted = _mean(reference, others)
    if wanted == 0:
        raise Trap2Error(
            f"the unprotected merge is at 0 % on {', '.join(others) or 'no other task'}, so "
            "nothing can be kept of it"
        )
    gain = reference[protected] - zero_shot[protected]
    return Outcome(
        acquired=100 * (merged[protected] - zero_shot[protected]) / gain
        if gain >= LEAST_GAIN
        else None,
        kept=100 * _mean(merged, others) / wanted,
        protected=merged[protected],
        others=_mean(merged, others),
        average=_mean(merged, list(merged)),
    )


def _mean(accuracies: Mapping[str, float], tasks: list[str]) -> float:
    return sum(accuracies[task] for task in tasks) / len(tasks) if tasks else 0.0
