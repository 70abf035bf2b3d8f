"""Names and options of the merging methods: what is known, in range, and the default."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from trap2.merging.catalogue import METHODS, check_options
from trap2.merging.merger import Merger
from trap2.updates.delta import LowRank, Update, UpdateError

UPDATE: Update = {"q": LowRank(torch.ones(4, 2), torch.ones(2, 3))}
DENSE: Update = {"q": torch.ones(4, 3)}


def test_unknown_spaces_methods_and_cells() -> None:
    updates = [UPDATE]
    with pytest.raises(ValueError, match="unknown merge space 'core'; known: Full, KnOTS, Core"):
        Merger(updates, "core")
    with pytest.raises(ValueError, match="unknown merging method 'ties'; known: WA, TA, TIES"):
        Merger(updates).merge("ties")
    with pytest.raises(ValueError, match="TA runs in Full, not in Core; its result is the same"):
        Merger(updates, "Core").merge("TA")
    with pytest.raises(UpdateError, match=r"layer q is dense.*Full space only, not in KnOTS"):
        Merger([DENSE], "KnOTS")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("TIES", {"keep": 0}, r"keep = 0: must be a number in \(0, 100\]"),
        ("TIES", {"keep": 100.5}, r"keep = 100.5: must be"),
        ("TIES", {"keep": "30"}, r"keep = '30': must be"),
        ("TIES", {"keep": True}, r"keep = True: must be"),
        ("TIES", {"keep": float("nan")}, r"keep = nan: must be"),
        ("TIES", {"variant": "mine"}, r"variant = 'mine': must be one of trap2, ties, peft"),
        ("DARE", {"drop": 1.0}, r"drop = 1.0: must be a number in \[0, 1\)"),
        ("DARE", {"keep": 3}, r"keep: DARE has no such option; it takes drop"),
        ("TA", {"keep": 3}, r"keep: TA has no such option; it takes none"),
        ("CART", {"rank_fraction": 0, "scale": -1}, r"rank_fraction = 0.*\nscale = -1"),
    ],
)
def test_options_out_of_range(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_options(method, options)
    with pytest.raises(ValueError, match=message):
        Merger([UPDATE]).merge(method, **options)


def test_defaults_of_the_variants() -> None:
    assert check_options("CART", {}) == {"rank_fraction": 0.04, "scale": 0.1, "variant": "trap2"}
    cart = check_options("CART", {"variant": "cart", "scale": 3})
    assert cart == {"rank_fraction": 0.12, "scale": 3, "variant": "cart"}
    assert check_options("CART", {"variant": "paper"})["scale"] == 1.0
    assert check_options("TIES+DARE", {"keep": 10}) == {
        "drop": 1e-5,
        "keep": 10,
        "variant": "trap2",
    }
    for method in METHODS.values():
        for option in method.options.values():
            assert option.accepts(option.default)
            assert all(option.accepts(value) for value in option.by_variant.values())
