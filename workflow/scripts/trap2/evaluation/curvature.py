"""Loss, slope and curvature along lines in weight space, by automatic differentiation.

Along W + u·V the second derivative of the loss is ⟨V, ∇²L(W + u·V)[V]⟩: a Hessian–vector product
contracted with V, which two backward passes through the scalar u give without forming either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from trap2.models.task import Batch, Task

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class SampledLoss:
    """The empirical loss L of a task: its mean in nats over a sample of examples.

    Attributes:
        task: the task.
        batches: the sample.
    """

    task: Task
    batches: Sequence[Batch]

    def total(self, model: nn.Module, weights: Weights, batch: Batch) -> torch.Tensor:
        """The loss summed over a batch, of the model at the given weights."""

        def moved(inputs: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = torch.func.functional_call(model, dict(weights), (inputs,))
            return output

        return self.task.loss(moved, batch, reduction="sum")

    @property
    def count(self) -> int:
        """Number of examples."""
        return sum(map(len, self.batches))


@dataclass(frozen=True)
class Derivatives:
    """L, dL/du and d²L/du² at a point of a line."""

    loss: float
    slope: float
    curvature: float


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """Attention by plain operations: the fused kernels have no second derivative."""
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        yield


def along(
    model: nn.Module, origin: Weights, direction: Weights, loss: SampledLoss, u: float
) -> Derivatives:
    """The loss and its two derivatives in u at the weights origin + u·direction.

    Args:
        model: the model; weights that ``origin`` does not name are its own.
        origin: weights at u = 0, by name.
        direction: V, with the same names and shapes.
        loss: the task's loss.
        u: the point.
    """
    sums = [0.0, 0.0, 0.0]
    like = next(iter(origin.values()))
    for batch in loss.batches:
        with _twice_differentiable():
            point = torch.tensor(u, device=like.device, dtype=like.dtype, requires_grad=True)
            weights = {name: origin[name] + point * direction[name] for name in origin}
            value = loss.total(model, weights, batch)
            (slope,) = torch.autograd.grad(value, point, create_graph=True)
            (curvature,) = torch.autograd.grad(slope, point)
        for k, part in enumerate((value, slope, curvature)):
            sums[k] += float(part.detach())
    return Derivatives(*(total / loss.count for total in sums))


def gradient_norm(model: nn.Module, weights: Weights, loss: SampledLoss) -> float:
    """‖∇L‖_F with respect to the named weights, at those weights."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}
    for batch in loss.batches:
        with torch.enable_grad():
            torch.autograd.backward(loss.total(model, leaves, batch) / loss.count)
    squares = (
        leaf.grad.double().square().sum() for leaf in leaves.values() if leaf.grad is not None
    )
    return float(torch.stack(list(squares)).sum().sqrt())
