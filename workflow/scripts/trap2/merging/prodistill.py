"""ProDistill (arXiv:2502.12706): the merged model imitates each task's own, block after block.

A block's merged weights are W0 + Σ_k α_k ⊙ ΔW_k.  The α minimise the squared distance of the
block's output to that of the sample's own fine-tuned model, each at the inputs that the blocks
below it give: merged ones here, fine-tuned ones there.  No labels are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.func import functional_call

from trap2.merging.adamerging import without_gradients
from trap2.merging.regression import DataMerge, Tensor, evaluating
from trap2.merging.sample import Sample
from trap2.runtime.catalogue import Options
from trap2.runtime.errors import Trap2Error
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import Update, check_updates, dense, layer_updates

Granularity = Literal["elementwise", "layer", "task"]
"""One α an entry of a tensor, a tensor, or a block; each a task."""


class BlockCoefficients:
    """The coefficients α of one block, trainable and unbounded.

    Args:
        base: W0 of the block's tensors that an update holds, by name.
        deltas: the tasks' ΔW of these, (N, …).
        granularity: what has an α of its own.
        start: every α at first (0.3 in ProDistill).
    """

    def __init__(
        self,
        base: Mapping[str, Tensor],
        deltas: Mapping[str, Tensor],
        granularity: Granularity,
        start: float,
    ) -> None:
        self.base, self.deltas = base, deltas
        shared = next(iter(deltas.values()))

        def raw(stack: Tensor) -> Tensor:
            shape = stack.shape if granularity == "elementwise" else stack.shape[:1]
            return stack.new_full(tuple(shape), start).requires_grad_(True)

        if granularity == "task":
            one = raw(shared)
            self.alphas = dict.fromkeys(deltas, one)
        else:
            self.alphas = {name: raw(stack) for name, stack in deltas.items()}

    def parameters(self) -> list[Tensor]:
        """The different tensors of α."""
        return list({id(alpha): alpha for alpha in self.alphas.values()}.values())

    def merged(self) -> dict[str, Tensor]:
        """Σ_k α_k ⊙ ΔW_k by tensor."""
        return {name: self._merged(self.alphas[name], stack) for name, stack in self.deltas.items()}

    @staticmethod
    def _merged(alpha: Tensor, stack: Tensor) -> Tensor:
        if alpha.shape == stack.shape:
            return (alpha * stack).sum(0)
        merged: Tensor = torch.tensordot(alpha, stack, dims=1)
        return merged

    def weights(self) -> dict[str, Tensor]:
        """W0 + Σ_k α_k ⊙ ΔW_k by tensor."""
        return {name: self.base[name] + delta for name, delta in self.merged().items()}

    def means(self) -> dict[str, Tensor]:
        """Every task's mean α, (N,) in float64, by tensor."""
        return {
            name: alpha.detach().double().reshape(len(alpha), -1).mean(1).cpu()
            for name, alpha in self.alphas.items()
        }


def fit_block(
    block: Callable[[dict[str, Tensor], Tensor], Tensor],
    coefficients: BlockCoefficients,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    learning_rate: float = 0.01,
) -> list[float]:
    """Minimise Σ ‖block(W0 + Σ_k α_k ⊙ ΔW_k; x) − y‖² with Adam, a step a batch.

    Args:
        block: from the tensors of :meth:`BlockCoefficients.weights` and inputs to outputs.
        coefficients: changed in place.
        batches: the inputs x, from the merged blocks below, with what each sample's own model
            gives out, y.
        learning_rate: Adam's, with betas (0.9, 0.999).

    Returns:
        The loss before each step: a sum over samples, positions and features, as in the authors'
        code (the paper divides it by a constant).
    """
    optimiser = torch.optim.Adam(coefficients.parameters(), lr=learning_rate)
    losses = []
    for inputs, wanted in batches:
        optimiser.zero_grad()
        loss = (block(coefficients.weights(), inputs) - wanted).square().sum()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def merge_sample(sample: Sample, updates: Sequence[Update], options: Options) -> DataMerge:
    """ProDistill, as an entry of the catalogue calls it.

    Args:
        sample: unlabelled inputs of every task, and the model's blocks.
        updates: one a task; whatever tensors they hold, norms and biases too.
        options: ``granularity``, ``coefficient``, ``learning_rate``, ``epochs``, ``batch_size``.

    Returns:
        The merged ΔW: in the blocks Σ_k α_k ⊙ ΔW_k, elsewhere ``coefficient`` · Σ_k ΔW_k; and
        every task's mean α by tensor.

    Raises:
        Trap2Error: the model has no blocks, or the numbers of tasks differ.
        UpdateError: the updates do not belong together, or do not fit the model.
    """
    if not sample.blocks:
        raise Trap2Error("ProDistill goes through a model's blocks, and none of this one is known")
    if len(sample.inputs) != len(updates):
        raise Trap2Error(
            f"{len(updates)} updates and inputs of {len(sample.inputs)} tasks: each task gives one "
            "of each"
        )
    start = float(options["coefficient"])
    result = _task_arithmetic(updates, start)
    generator = torch.Generator().manual_seed(sample.seed)
    model = sample.model
    with evaluating(model), without_gradients(model):
        for name in sample.blocks:
            coefficients = _coefficients(model, name, updates, options["granularity"], start)
            if coefficients is None:
                continue
            merged = _passed(model, name, _at(model, result.merged), _all(sample.inputs))
            wanted = teacher_outputs(model, name, sample.inputs, updates)
            pairs = _batches(
                merged.inputs, wanted, options["epochs"], options["batch_size"], generator
            )
            fit_block(
                _Block(model.get_submodule(name), merged.others, merged.named),
                coefficients,
                pairs,
                learning_rate=options["learning_rate"],
            )
            found = coefficients.merged()
            result.merged.update({f"{name}.{n}": d.detach().float() for n, d in found.items()})
            means = coefficients.means()
            result.coefficients.update({f"{name}.{n}": mean for n, mean in means.items()})
    return result


def teacher_outputs(
    model: nn.Module, block: str, inputs: Sequence[Sequence[Tensor]], updates: Sequence[Update]
) -> Tensor:
    """What each sample's own fine-tuned model W0 + ΔW_k gives out at a block.

    Args:
        model: holds W0, and does so afterwards.
        block: the block's name.
        inputs: one sequence of batches a task.
        updates: one a task.

    Returns:
        The outputs, task after task in one tensor (samples, …).
    """
    outputs = [
        _passed(model, block, _at(model, {n: dense(update[n]) for n in update}), batches).outputs
        for batches, update in zip(inputs, updates, strict=True)
    ]
    return torch.cat(outputs)


def _task_arithmetic(updates: Sequence[Update], coefficient: float) -> DataMerge:
    """``coefficient`` · Σ_k ΔW_k of every tensor."""
    result = DataMerge()
    for layer, shape in check_updates(updates).items():
        parts = layer_updates(updates, layer, shape)
        result.merged[layer] = coefficient * torch.stack([dense(p).float() for p in parts]).sum(0)
        result.coefficients[layer] = torch.full((len(updates),), coefficient, dtype=torch.float64)
    return result


def _coefficients(
    model: nn.Module,
    block: str,
    updates: Sequence[Update],
    granularity: Granularity,
    start: float,
) -> BlockCoefficients | None:
    """The coefficients of a block; None where no update holds anything of it."""
    base = {
        name: weight.detach()
        for name, weight in model.get_submodule(block).named_parameters()
        if any(f"{block}.{name}" in update for update in updates)
    }
    deltas = {}
    for name, weight in base.items():
        parts = layer_updates(updates, f"{block}.{name}", tuple(weight.shape))
        deltas[name] = torch.stack([dense(part).reshape(weight.shape) for part in parts]).to(weight)
    return BlockCoefficients(base, deltas, granularity, start) if deltas else None


def _batches(
    inputs: Tensor, wanted: Tensor, epochs: int, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of all tasks' samples, shuffled anew in every epoch."""
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        for chosen in order.split(size):
            yield inputs[chosen], wanted[chosen]


@dataclass(frozen=True)
class _Block:
    """A block as a function of the weights that are merged, and of its input."""

    module: nn.Module
    others: tuple[Any, ...]
    named: Mapping[str, Any]

    def __call__(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        output: Tensor = functional_call(
            self.module, weights, (inputs, *self.others), dict(self.named)
        )
        return output


@dataclass(frozen=True)
class _Passed:
    """What went through a block: its inputs and outputs (samples, …), and its other arguments."""

    inputs: Tensor
    outputs: Tensor
    others: tuple[Any, ...]
    named: Mapping[str, Any]


class _BlockSeen(Exception):
    """The block has run: the rest of the forward pass is not needed."""


def _passed(
    model: nn.Module,
    block: str,
    weights: AbstractContextManager[object],
    batches: Iterable[Tensor],
) -> _Passed:
    """Record a block over batches, in a context in which the model has its weights."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any], Tensor]] = []

    def record(
        _module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Tensor
    ) -> None:
        seen.append((args, named, output))
        raise _BlockSeen

    handle = model.get_submodule(block).register_forward_hook(record, with_kwargs=True)
    try:
        with weights, torch.no_grad():
            for batch in batches:
                before = len(seen)
                try:
                    model(batch)
                except _BlockSeen:
                    continue
                if len(seen) == before:
                    raise Trap2Error(f"block {block} does not run in a forward pass")
    finally:
        handle.remove()
    inputs = torch.cat([args[0] for args, _, _ in seen])
    outputs = torch.cat([output for _, _, output in seen])
    return _Passed(inputs, outputs, seen[0][0][1:], seen[0][1])


def _at(model: nn.Module, delta: Mapping[str, Tensor]) -> AppliedUpdate:
    """A context in which the model is at W0 + ΔW."""
    applied = AppliedUpdate(model, delta)
    applied.set(1.0)
    return applied


def _all(inputs: Sequence[Sequence[Tensor]]) -> Iterator[Tensor]:
    return (batch for batches in inputs for batch in batches)
