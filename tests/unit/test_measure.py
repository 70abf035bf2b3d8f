"""The measure of an attack, with the arithmetic done by hand."""

import pytest
from trap2.attacks.measure import measure, verdict
from trap2.runtime.errors import Trap2Error

ZERO_SHOT = {"a": 30.0, "b": 40.0, "c": 60.0}
REFERENCE = {"a": 50.0, "b": 60.0, "c": 80.0}


@pytest.mark.parametrize(
    ("merged", "acquired", "kept", "found"),
    [
        # The unprotected merge itself.
        (REFERENCE, 100.0, 100.0, "acquired"),
        # Half of the way, and 133 of 140 kept: both thresholds met exactly.
        ({"a": 40.0, "b": 53.0, "c": 80.0}, 50.0, 95.0, "acquired"),
        ({"a": 39.9, "b": 60.0, "c": 80.0}, 49.5, 100.0, "excluded"),
        # Worse than the base model on the task; the others as they were.
        ({"a": 10.0, "b": 60.0, "c": 80.0}, -100.0, 100.0, "excluded"),
        # The task alone, and nothing of the others: pinned at 1.
        ({"a": 90.0, "b": 14.0, "c": 14.0}, 300.0, 20.0, "destroyed"),
    ],
)
def test_what_an_attack_comes_to(merged, acquired, kept, found):
    outcome = measure(merged, REFERENCE, ZERO_SHOT, "a")
    assert outcome.acquired == pytest.approx(acquired)
    assert outcome.kept == pytest.approx(kept)
    assert outcome.verdict == found
    assert outcome.protected == merged["a"]
    assert outcome.others == pytest.approx((merged["b"] + merged["c"]) / 2)
    assert outcome.average == pytest.approx(sum(merged.values()) / 3)


def test_the_share_of_nothing_is_undefined_and_not_a_verdict():
    outcome = measure(REFERENCE, REFERENCE, {**ZERO_SHOT, "a": 45.1}, "a")
    assert outcome.acquired is None
    assert outcome.verdict == "undefined"
    assert measure(REFERENCE, REFERENCE, {**ZERO_SHOT, "a": 45.0}, "a").acquired == 100.0
    # Who loses the others has destroyed the merge, whatever the task gained.
    assert verdict(None, 94.9) == "destroyed"


def test_other_tasks_than_the_references_are_refused():
    with pytest.raises(Trap2Error, match="make them anew"):
        measure({"a": 1.0, "b": 2.0}, REFERENCE, ZERO_SHOT, "a")
    with pytest.raises(Trap2Error, match="nothing can be kept"):
        measure({"a": 1.0}, {"a": 1.0}, {"a": 1.0}, "a")
