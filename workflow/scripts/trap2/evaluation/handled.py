"""An update as somebody runs it alone: cast, cut, quantised, at another weight.

What is published is ΔW: an adapter's factors, or a whole checkpoint W0 + ΔW.  A treatment
(:mod:`trap2.evaluation.treatments`) makes of it the model that somebody runs; nothing is merged
with it.  All rules are this project's own choices, and each says what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trap2.models.task import Model
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import (
    LayerUpdate,
    LowRank,
    Update,
    UpdateError,
    check_updates,
    dense_layers,
    layer_updates,
)

Tensors = Mapping[str, torch.Tensor]

GROUP = 32
"""Weights of a row that share one scale in int4, as far as the row reaches."""


@dataclass(frozen=True)
class Handled:
    """A model as somebody runs it.

    Attributes:
        weights: by name, those that differ from the base's.
        dtype: in which the whole forward pass is computed; its output is float32 again.
        beside: factors that run beside their layers, y = W x + B(A x), by the weights' names.
    """

    weights: Tensors
    dtype: torch.dtype = torch.float32
    beside: Mapping[str, LowRank] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A published update on its base.

    Attributes:
        model: holds W0, and is not changed.
        update: ΔW, on the model's device.
        rank: r, at which it is extracted and cut: an adapter's own.
    """

    model: nn.Module
    update: Update
    rank: int

    @classmethod
    def of(cls, model: nn.Module, update: Update, rank: int) -> Subject:
        """An update on its base.

        Args:
            model: the base; it is not changed.
            update: ΔW.
            rank: r for an update that has no factors; those of an adapter have their own.

        Raises:
            UpdateError: the update is empty, NaN or infinite, or not one of this model.
        """
        shapes = check_updates([update])
        parts = {layer: layer_updates([update], layer, shapes[layer])[0] for layer in shapes}
        ranks = [part.rank for part in parts.values() if isinstance(part, LowRank)]
        place = next(iter(model.state_dict().values())).device
        subject = cls(
            model, {k: _on(part, place) for k, part in parts.items()}, max(ranks, default=rank)
        )
        for layer, weight in subject.merged().items():
            if not weight.isfinite().all():
                raise UpdateError(f"layer {layer}: W0 + ΔW is NaN or infinite; ΔW is too large")
        return subject

    @property
    def has_factors(self) -> bool:
        """Whether all of ΔW is products BA."""
        return all(isinstance(part, LowRank) for part in self.update.values())

    @property
    def base(self) -> dict[str, torch.Tensor]:
        """W0 by name; the tensors are the model's own."""
        return dict(self.model.state_dict())

    @cached_property
    def linear(self) -> list[str]:
        """The weights of the model's linear layers, which quantisation acts on."""
        modules = self.model.named_modules()
        return [f"{name}.weight" for name, module in modules if isinstance(module, nn.Linear)]

    def merged(self, weight: float = 1.0) -> dict[str, torch.Tensor]:
        """W0 + weight · ΔW of the layers that ΔW changes, in the model's type and shapes."""
        with AppliedUpdate(self.model, dense_layers(self.update)) as applied:
            applied.set(weight)
            own = self.model.state_dict()
            return {layer: own[layer].clone() for layer in self.update}

    def plus(self, base: Tensors, update: Update) -> dict[str, torch.Tensor]:
        """The weights ``base`` + ``update``, in the shapes of ``base``."""
        moved = {name: part.reshape(base[name].shape) for name, part in dense_layers(update)}
        return {name: part + moved[name] if name in moved else part for name, part in base.items()}


def _on(part: LayerUpdate, device: torch.device) -> LayerUpdate:
    if isinstance(part, LowRank):
        return LowRank(part.B.to(device), part.A.to(device))
    return part.to(device)


def _each(update: Update, change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, LayerUpdate]:
    """An update with every published tensor changed, factors one by one."""
    return {
        layer: LowRank(change(part.B), change(part.A))
        if isinstance(part, LowRank)
        else change(part)
        for layer, part in update.items()
    }


def rounded(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A tensor's values as ``dtype`` holds them, in the tensor's own type."""
    return tensor.to(dtype).to(tensor.dtype) if tensor.is_floating_point() else tensor


def cast_update(subject: Subject, dtype: torch.dtype) -> Handled:
    """The adapter's file in 16 bits: B, with the scale α/r in it, and A rounded; W0 is not."""
    update = _each(subject.update, lambda part: rounded(part, dtype))
    return Handled(subject.plus(subject.base, update))


def cast_merged(subject: Subject, dtype: torch.dtype) -> Handled:
    """The merged model's file in 16 bits: every tensor of it rounded, computed in float32."""
    whole = subject.base | subject.merged()
    return Handled({name: rounded(tensor, dtype) for name, tensor in whole.items()})


def beside(subject: Subject) -> Handled:
    """The adapter not merged, as PEFT runs it: y = W0 x + B(A x)."""
    factors = {k: part for k, part in subject.update.items() if isinstance(part, LowRank)}
    return Handled({}, beside=factors)


def cut(part: LayerUpdate, rank: int) -> torch.Tensor:
    """The best approximation of a matrix at a rank in ‖·‖_F (Eckart and Young), from float64.

    Args:
        part: (d_out, d_in) as factors or a tensor.
        rank: at least 1.
    """
    left, right = strongest(part, rank)
    return (left @ right).to(part.B.dtype if isinstance(part, LowRank) else part.dtype)


def strongest(part: LayerUpdate, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors of :func:`cut`, (d_out, rank) with the singular values and (rank, d_in), float64.

    Both have fewer where the matrix has fewer singular values.
    """
    if isinstance(part, LowRank):
        left, small_left = torch.linalg.qr(part.B.double())
        right, small_right = torch.linalg.qr(part.A.double().T)
        u, sigma, vt = torch.linalg.svd(small_left @ small_right.T, full_matrices=False)
        u, vt = left @ u, vt @ right.T
    else:
        u, sigma, vt = torch.linalg.svd(part.double(), full_matrices=False)
    return u[:, :rank] * sigma[:rank], vt[:rank]


def _share(rank: int, share: float) -> int:
    return max(1, round(rank * share))


def truncated(subject: Subject, share: float) -> Handled:
    """The adapter brought to another rank: BA cut at r times ``share``, at least 1."""
    rank = _share(subject.rank, share)
    update = {layer: cut(part, rank) for layer, part in subject.update.items()}
    return Handled(subject.plus(subject.base, update))


def extracted(subject: Subject, share: float) -> Handled:
    """An adapter extracted from the merged weights: W − W0 in float32, cut at r times ``share``.

    The matrices are extracted, convolutions as (d_out, rest).  Vectors (biases, norms), which such
    an adapter cannot hold, are W0's again.
    """
    rank, update = _share(subject.rank, share), {}
    for layer, weight in subject.merged().items():
        if weight.ndim >= 2:
            update[layer] = cut((weight - subject.base[layer]).flatten(1), rank)
    return Handled(subject.plus(subject.base, update))


def quantised(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """A matrix rounded to whole multiples of a scale, symmetrically and to nearest (ties to even).

    q = round(w / a) in [−Q, Q] with Q = 2^(bits − 1) − 1 and a = max|w| / Q.  In 8 bits a is one
    number a row (an output channel); in 4 bits one for each 32 weights along a row, fewer at its
    end.  No calibration, no zero points, no outliers kept: the plain rule, worse than GPTQ, AWQ or
    NF4.

    Args:
        weight: (d_out, d_in).
        bits: 8 or 4.
    """
    top = 2 ** (bits - 1) - 1
    rows, columns = weight.shape
    size = columns if bits > 4 else GROUP
    padded = F.pad(weight, (0, -columns % size)).reshape(rows, -1, size)
    scale = padded.abs().amax(dim=-1, keepdim=True) / top
    whole = torch.where(scale > 0, padded / scale, 0.0).round().clamp(-top, top)
    found: torch.Tensor = (whole * scale).reshape(rows, -1)[:, :columns]
    return found


def quantised_base(subject: Subject, bits: int) -> Handled:
    """The linear layers of the base quantised, ΔW added in float32 (an adapter on such a base)."""
    base = {name: quantised(subject.base[name], bits) for name in subject.linear}
    return Handled(subject.plus(subject.base | base, subject.update))


def quantised_update(subject: Subject, bits: int) -> Handled:
    """The factors B (in rows of r) and A (in rows of d_in) quantised; W0 is not."""
    update = _each(subject.update, lambda part: quantised(part, bits))
    return Handled(subject.plus(subject.base, update))


def quantised_merged(subject: Subject, bits: int) -> Handled:
    """The linear layers of the merged model quantised, all of them; the rest as it is."""
    merged = subject.merged()
    whole = subject.base | merged
    return Handled(merged | {name: quantised(whole[name], bits) for name in subject.linear})


@contextmanager
def _running_beside(model: nn.Module, factors: Mapping[str, LowRank]) -> Iterator[None]:
    def add(part: LowRank) -> Callable[..., torch.Tensor]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            return output + F.linear(F.linear(inputs[0], part.A), part.B)

        return hook

    with ExitStack() as stack:
        for layer, part in factors.items():
            module = model.get_submodule(layer.removesuffix(".weight"))
            stack.callback(module.register_forward_hook(add(part)).remove)
        yield


def as_model(model: nn.Module, handled: Handled) -> Model:
    """A treated model as a function of inputs (n, …) in float32; ``model`` is not changed.

    It is computed in ``handled.dtype`` alone: bfloat16 is not mixed in, also where others scores
    are made so on a GPU.
    """
    weights = {
        name: tensor.to(handled.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in (dict(model.state_dict()) | dict(handled.weights)).items()
    }

    def run(inputs: torch.Tensor) -> torch.Tensor:
        with (
            torch.autocast(inputs.device.type, enabled=False),
            _running_beside(model, handled.beside),
        ):
            given = (inputs.to(handled.dtype),)
            output: torch.Tensor = torch.func.functional_call(model, weights, given)
        return output.float()

    return run
