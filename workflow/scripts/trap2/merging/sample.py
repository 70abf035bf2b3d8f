"""What a merging method with data sees of the tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Sample:
    """Unlabelled inputs of every task, and the model that they are for.

    Attributes:
        model: holds the base weights W0, and must hold them again after the merge, bit for bit.
        targets: names of its ``nn.Linear`` modules that updates adapt, in the order in which they
            run; the weights are ``target + ".weight"``.
        inputs: one sequence of batches a task; the model is called with one batch.
        logits: one function a task, from the model's output to (batch, classes) logits.
        blocks: names of its repeated blocks, in the order in which they run.
        seed: decides what a method draws itself.
    """

    model: nn.Module
    targets: Sequence[str]
    inputs: Sequence[Sequence[torch.Tensor]]
    logits: Sequence[Callable[[torch.Tensor], torch.Tensor]]
    blocks: Sequence[str] = ()
    seed: int = 0
