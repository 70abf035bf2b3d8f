"""What a score is, and the precision that models run in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from trap2.runtime.errors import Trap2Error
from trap2.updates.records import ScoreRecord


@dataclass(frozen=True)
class Score:
    """What one pass over a split gave.

    Attributes:
        correct: number of examples whose answer is right, the largest logit their label's.
        count: number of examples.
        loss: mean cross-entropy in nats.
    """

    correct: int
    count: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Accuracy in percent, 0 … 100."""
        return 100.0 * self.correct / self.count


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 in its hardware; float32 is used everywhere else."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def mixed_precision(device: torch.device) -> torch.autocast:
    """A context in which models run in bfloat16 where the device has it, weights in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


def in_mixed_precision(
    model: Callable[[torch.Tensor], torch.Tensor], device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The model, called in :func:`mixed_precision`; what is made of its output is not."""

    def mixed(inputs: torch.Tensor) -> torch.Tensor:
        with mixed_precision(device):
            return model(inputs)

    return mixed


def score_record(score: Score) -> ScoreRecord:
    """A score as it stands in JSON records.

    Raises:
        Trap2Error: the loss is not finite; the model's outputs overflow or are NaN.
    """
    if not math.isfinite(score.loss):
        raise Trap2Error(
            f"the loss is {score.loss}: the model gives NaN or infinity. Its update is damaged, or "
            "its scale too large"
        )
    return {
        "correct": score.correct,
        "count": score.count,
        "accuracy": score.accuracy,
        "loss": score.loss,
    }
