"""How an update is optimised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from trap2.runtime.settings import setting


@dataclass(frozen=True)
class Optimisation:
    """AdamW with linear warm-up, then a cosine (paper, D.3 and D.4; defaults after the code)."""

    learning_rate: float = setting("AdamW's peak learning rate.", 3e-4, above=0, at_most=1)
    steps: int = setting(
        "Optimiser steps at most; the cosine ends there.", 100_000, at_least=1, at_most=10**8
    )
    batch_size: int = setting("Images a step.", 32, at_least=1, at_most=10**6)
    micro_batch_size: int = setting(
        "Images a forward pass; smaller than batch_size accumulates gradients.",
        32,
        at_least=1,
        at_most=10**6,
    )
    together: bool = setting(
        "Both terms of TRAP²'s objective in one pass over twice the images: fewer and larger "
        "operations, twice the activations, the same gradient to rounding. Adapters alone.",
        False,
    )
    warmup_steps: int = setting("Steps of linear warm-up.", 500, at_least=0, at_most=10**8)
    beta1: float = setting("AdamW's first decay rate.", 0.9, at_least=0, below=1)
    beta2: float = setting("AdamW's second decay rate.", 0.98, at_least=0, below=1)
    epsilon: float = setting("AdamW's epsilon.", 1e-6, above=0, at_most=1)
    weight_decay: float = setting("AdamW's weight decay.", 0.0, at_least=0, at_most=100)
    clip_norm: float = setting("Largest norm of the gradient.", 1.0, above=0, at_most=10**6)
    evaluate_every: int = setting(
        "Steps between validations; the best weights are kept.", 2000, at_least=1, at_most=10**8
    )
    patience: int = setting(
        "Validations without improvement before stopping early.", 5, at_least=1, at_most=10**6
    )
    improvement: float = setting(
        "Least gain in validation accuracy (percentage points) that counts.",
        0.1,
        at_least=0,
        at_most=100,
    )
    evaluation_batch_size: int = setting(
        "Images a forward pass of an evaluation.", 256, at_least=1, at_most=10**6
    )


class TrainingParams(TypedDict):
    """A release format's training as a job gets it from the configuration.

    ``optimisation`` has fields of :class:`Optimisation`, ``adapter`` of
    :class:`~trap2.updates.settings.AdapterSettings`; a whole checkpoint has no adapter.
    """

    optimisation: Mapping[str, Any]
    adapter: NotRequired[Mapping[str, Any]]
