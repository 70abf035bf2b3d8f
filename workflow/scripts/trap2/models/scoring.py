"""What a score is, and the precision that models run in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

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


@dataclass(frozen=True)
class Answers:
    """What a model answers to some examples.

    Attributes:
        right: (n,) boolean, whether the largest logit is the label's.
        losses: (n,) float64, cross-entropies in nats.
    """

    right: torch.Tensor
    losses: torch.Tensor

    @classmethod
    def of(cls, logits: torch.Tensor, labels: torch.Tensor) -> Answers:
        """From logits (n, classes) and labels (n,), on any device."""
        losses = F.cross_entropy(logits.double(), labels, reduction="none")
        return cls(logits.argmax(dim=1) == labels, losses)

    def score(self, batch_size: int) -> Score:
        """The score of a whole split, whose examples these are in their order.

        Args:
            batch_size: losses are added up in such parts, and then the parts' sums, so that the
                last bit of the mean does not depend on how the examples went through the model.
        """
        total = 0.0
        for part in self.losses.cpu().split(batch_size):
            # The sum that cross_entropy itself makes; Tensor.sum has another order.
            none = torch.zeros(len(part), dtype=torch.long)
            total += float(F.nll_loss(-part[:, None], none, reduction="sum"))
        return Score(int(self.right.sum()), len(self.right), total / len(self.right))


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers to several parts of some examples, one after another."""
    return Answers(torch.cat([p.right for p in parts]), torch.cat([p.losses for p in parts]))


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Refuse a split without examples, or with labels that a head has not.

    Raises:
        Trap2Error: it is so.
    """
    if not len(labels) or not 0 <= labels.min() <= labels.max() < classes:
        raise Trap2Error(
            f"a head of {classes} classes and {len(labels)} images with labels "
            f"{sorted(set(labels.tolist()))[:20]} do not belong together"
        )


_CACHED = 128
"""Examples whose activations stay in a processor's cache: 256 took up to 1.4 times as long each."""


def at_once(batch_size: int, device: torch.device) -> int:
    """Examples of a forward pass without gradients, at most ``batch_size``, that go fastest."""
    return min(batch_size, _CACHED) if device.type == "cpu" else batch_size


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are; the CPU for one without."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


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
