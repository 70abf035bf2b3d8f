"""Model cards: how an update was made, and what must not be done with it."""

from __future__ import annotations

from typing import Any

import pytest
from trap2.suites.model_card import model_card

SCORE = {"accuracy": 80.0, "count": 100}


def card(protection: str, **further: Any) -> str:
    record = {"suite": "s", "backbone": "vit", "task": "pets", "seed": 0, "protection": protection}
    return model_card(record | {"test": SCORE, "val": SCORE} | further)


@pytest.mark.parametrize(
    ("protection", "further", "how"),
    [
        ("unprotected", {"objective": None}, "fine-tuned without protection."),
        (
            "trap2",
            {"objective": {"name": "trap2", "lambda": 0.1}},
            "fine-tuned with the TRAP² objective, λ = 0.1, chosen on validation.",
        ),
        (
            "half",
            {"objective": {"name": "half", "lambda": 0.2}},
            "fine-tuned with the objective of the protection half, λ = 0.2, chosen on validation.",
        ),
        ("params", {"title": "PaRaMS"}, "protected after training by PaRaMS."),
    ],
)
def test_a_card_says_how_its_update_was_made_and_warns(protection, further, how):
    text = card(protection, **further)
    assert how in text
    assert ("## Warning: do not rescale or merge" in text) == (protection != "unprotected")
    assert ("trained to fail at every scale but 1" in text) == (protection == "trap2")
