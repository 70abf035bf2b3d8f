"""The shapes of what the protocols of the sibling papers write (docs/siblings.md).

Light, without PyTorch, as :mod:`trap2.updates.records`.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from trap2.updates.records import AnswerRecord, Circumstances


class SiblingScore(AnswerRecord):
    """An answer with its mean loss in nats; of a model that gives NaN it is None."""

    loss: float | None


class SiblingPoint(TypedDict):
    """A merge and its test scores by task; ``coefficient`` is None where a method finds its own."""

    coefficient: float | None
    test: dict[str, SiblingScore]


class SiblingDistance(TypedDict):
    """How far an attention layer lies from W0, √(‖ΔW_a‖² + ‖ΔW_b‖²), without biases.

    ``layer`` counts from 0; ``pair`` is ``qk`` or ``vo``.
    """

    layer: int
    pair: str
    attack: str
    distance: float


class SiblingCell(TypedDict):
    """One merge of the sibling papers' protocols, or the points of a curve or path of such.

    ``protocol`` is ``pair``, ``curve``, ``path``, ``all`` or ``alone``; ``partner`` is None in the
    last two.  ``attack`` is what was done before merging, ``none`` for nothing.  Without points it
    did not apply, for the ``reason``.  Those of ``alone`` have the protected update at s = 1 and
    its ``distances``, and stand in the record's ``standalone`` and ``distances`` as well.
    """

    protocol: str
    partner: str | None
    method: str
    attack: str
    points: list[SiblingPoint]
    distances: NotRequired[list[SiblingDistance]]
    reason: NotRequired[str]
    seconds: float
    key: NotRequired[str]
    digest: NotRequired[str]


class SiblingRecord(Circumstances):
    """``siblings/{protection}/{protected}.json``: one update in the sibling papers' protocols.

    ``standalone`` has the scores of the protected update alone at s = 1 on its own task, by
    attack; ``zero_shot`` those of W0.  Cells by ``{protocol}/{partner or all}/{method}/{attack}``.
    """

    release_format: str
    protection: str
    protected_task: str
    tasks: list[str]
    seed: int
    zero_shot: SiblingScore
    standalone: dict[str, SiblingScore]
    distances: list[SiblingDistance]
    cells: dict[str, SiblingCell]
