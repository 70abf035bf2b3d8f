"""Choosing λ on validation (paper, Appendix D.3: per dataset, on a validation split)."""

from __future__ import annotations

from collections.abc import Mapping

from trap2.runtime.errors import Trap2Error


def select_lambda(accuracies: Mapping[float, float], reference: float, tolerance: float) -> float:
    """The largest λ that keeps standalone accuracy, else the one with the best accuracy.

    The paper says only that λ is chosen on validation.  Among values that keep the accuracy,
    the largest protects most, so the rule takes it; it sees neither a merge nor the test split.

    Args:
        accuracies: validation accuracy in percent of the TRAP² update trained with each λ.
        reference: validation accuracy in percent of the unprotected update.
        tolerance: how many percent of ``reference`` may be lost, 0 … 100.

    Returns:
        The chosen λ; among equally accurate ones outside the tolerance, the largest.

    Raises:
        ValueError: there is no candidate.
    """
    if not accuracies:
        raise Trap2Error("no candidate: the λ grid of this task is empty")
    floor = reference * (1 - tolerance / 100)
    kept = [lambda_ for lambda_, accuracy in accuracies.items() if accuracy >= floor]
    if kept:
        return max(kept)
    return max(accuracies, key=lambda lambda_: (accuracies[lambda_], lambda_))
