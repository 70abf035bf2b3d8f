"""The demo's budgets of attacks: small, but none that keeps an attack from its aim."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from trap2.attacks.catalogue import ATTACKS

SUITES = Path(__file__).parents[2] / "config" / "suites"
DEMO = yaml.safe_load((SUITES / "demo.yaml").read_text("utf-8"))


def options(name: str) -> dict[str, Any]:
    return dict(ATTACKS[name].check_options(DEMO["threats"]["options"].get(name, {})))


@pytest.mark.parametrize("name", [n for n in ATTACKS if n.startswith("adamerging")])
def test_adamergings_coefficients_can_get_anywhere(name: str) -> None:
    """Adam moves a coefficient by about its rate in a step."""
    chosen = options(name)
    assert chosen["learning_rate"] * chosen["iterations"] >= 1
    assert chosen["order"] == "shuffled"


def test_prodistills_coefficients_can_get_anywhere() -> None:
    chosen = options("prodistill")
    steps = chosen["epochs"] * math.ceil(
        chosen["images"] * len(DEMO["tasks"]) / chosen["batch_size"]
    )
    assert chosen["learning_rate"] * steps >= 1


@pytest.mark.parametrize("name", ["distillation", "sft"])
def test_what_is_trained_anew_is_trained_as_the_suite_trains(name: str) -> None:
    chosen = options(name)
    for rate, release_format in (("learning_rate", "lora"), ("full_learning_rate", "full")):
        wanted = DEMO["release_formats"][release_format]["optimisation"]
        assert chosen[rate] == wanted["learning_rate"]
        assert chosen["batch_size"] == wanted["batch_size"]
