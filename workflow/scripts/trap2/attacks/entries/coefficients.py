"""Attacks that choose coefficients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trap2.attacks.attack import ATTACKS, Attack
from trap2.runtime.catalogue import Options

if TYPE_CHECKING:
    from trap2.attacks.stage import Merge, Stage


def _one(stage: Stage, _options: Options) -> Iterator[Merge]:
    yield stage.merge_by_ta(stage.updates)


ATTACKS.add(
    Attack(
        name="one",
        title="One coefficient",
        paper="Task Arithmetic, as in the paper's Table 2",
        group="coefficients",
        run=_one,
    )
)
