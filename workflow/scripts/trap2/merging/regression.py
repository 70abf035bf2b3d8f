"""Merging with data: RegMean, Chain of Merges and AdaMerging (paper, Appendix B.2).

RegMean (arXiv:2212.09849) solves a least-squares problem a linear layer from the Gram matrices of
its inputs; Chain of Merges (arXiv:2508.21421) solves the layers in order, with inputs recomputed
by the merged layers below; AdaMerging (arXiv:2310.02575) lowers the entropy of the predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from trap2.merging.sample import Sample
from trap2.runtime.catalogue import Options
from trap2.runtime.errors import Trap2Error
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import LayerUpdate, LowRank, Update, dense_layers, layer_updates

Tensor = torch.Tensor


EXACT = torch.float64


# A Cholesky factor whose diagonal spans more than this belongs to a singular Gram matrix.
_SINGULAR = 1e-7


def gram_matrix(inputs: Tensor, *, per_row: bool = True) -> Tensor:
    """G = XᵀX / rows of (…, d_in) layer inputs, (d_in, d_in) in float64.

    Args:
        inputs: the last dimension is the layer's; the others are rows.
        per_row: divide by the number of rows, as RegMean's code does; the paper's text does not.
            The merge is the same when all tasks give equally many rows.
    """
    rows = inputs.reshape(-1, inputs.shape[-1]).to(EXACT)
    gram = rows.mT @ rows
    return gram / len(rows) if per_row else gram


def damp_off_diagonal(gram: Tensor, factor: float) -> Tensor:
    """Multiply a Gram matrix's off-diagonal entries by ``factor``, 0 ≤ factor ≤ 1 (RegMean's α).

    Raises:
        ValueError: the factor is out of range.
    """
    if not 0 <= factor <= 1:
        raise Trap2Error(f"off_diagonal = {factor}: must be in [0, 1]")
    return gram * factor + torch.diag(gram.diagonal() * (1 - factor))


@dataclass
class GramRegression:
    """Running sums of RegMean's normal equations for one layer.

    With W_i = W0 + ΔW_i, (Σ W_i G_i)(Σ G_i)⁻¹ − W0 = (Σ ΔW_i G_i)(Σ G_i)⁻¹, so neither the base
    weights nor more than one task's Gram matrix are held.  Directions in which no task has inputs
    keep the base weights (pseudo-inverse).
    """

    weighted: Tensor | float = 0.0
    gram: Tensor | float = 0.0

    def add(self, update: LayerUpdate, gram: Tensor) -> None:
        """Add one task: its ΔW (d_out, d_in) and its float64 Gram matrix, weighted if wanted."""
        if isinstance(update, LowRank):
            self.weighted = self.weighted + update.B.to(EXACT) @ (update.A.to(EXACT) @ gram)
        else:
            self.weighted = self.weighted + update.to(EXACT) @ gram
        self.gram = self.gram + gram

    def solve(self) -> Tensor:
        """The merged ΔW, (d_out, d_in) in float64."""
        assert isinstance(self.gram, torch.Tensor)
        assert isinstance(self.weighted, torch.Tensor)
        factor, failed = torch.linalg.cholesky_ex(self.gram)
        diagonal = factor.diagonal()
        if failed or diagonal.min() < _SINGULAR * diagonal.max():
            merged: Tensor = self.weighted @ torch.linalg.pinv(self.gram, hermitian=True)
            return merged
        return torch.cholesky_solve(self.weighted.mT, factor).mT


def regmean(
    updates: Sequence[LayerUpdate], grams: Sequence[Tensor], *, off_diagonal: float = 1.0
) -> Tensor:
    """RegMean's merged ΔW of one layer, (d_out, d_in) in float64.

    Args:
        updates: one ΔW_i a task.
        grams: one Gram matrix a task (:func:`gram_matrix`).
        off_diagonal: factor of the Gram matrices' off-diagonal entries; 1 in the paper's
            formula, below 1 regularises.
    """
    regression = GramRegression()
    for update, gram in zip(updates, grams, strict=True):
        regression.add(update, damp_off_diagonal(gram, off_diagonal))
    return regression.solve()


@dataclass(frozen=True)
class DataMerge:
    """A merge with data.

    Attributes:
        merged: layer (weight name) to merged ΔW, float32.
        coefficients: layer to what the method says of every task there, (N,): RegMean and Chain
            of Merges every task's share of Σ_j tr(G_j), AdaMerging its λ.
    """

    merged: dict[str, Tensor] = field(default_factory=dict)
    coefficients: dict[str, Tensor] = field(default_factory=dict)


Weighting = Literal["equal", "trace"]


def merge_sample(
    sample: Sample,
    updates: Sequence[Update],
    options: Options,
    *,
    chain: bool,
    weighting: Weighting,
) -> DataMerge:
    """:func:`merge_with_inputs` as an entry of the catalogue calls it."""
    return merge_with_inputs(
        sample.model,
        sample.targets,
        sample.inputs,
        updates,
        chain=chain,
        weighting=weighting,
        off_diagonal=options["off_diagonal"],
    )


def merge_with_inputs(
    model: nn.Module,
    targets: Sequence[str],
    inputs: Sequence[Sequence[Tensor]],
    updates: Sequence[Update],
    *,
    chain: bool,
    weighting: Weighting = "equal",
    off_diagonal: float = 1.0,
    per_row: bool = True,
) -> DataMerge:
    """RegMean (``chain=False``) or Chain of Merges (``chain=True``) on a model.

    RegMean takes each layer's inputs from each task's own model.  Chain of Merges goes through
    the layers in order and takes them from the model with the merged layers below; layers with
    the same input (q, k, v) share its Gram matrix and are merged together.  The model is back at
    its base weights afterwards, bit for bit.

    Args:
        model: holds the base weights; called with one batch.
        targets: names of its ``nn.Linear`` modules to merge, in the order in which they run.
        inputs: one sequence of batches a task.
        updates: one a task, by weight name (``target + ".weight"``).
        chain: recompute the inputs with the merged layers below.
        weighting: ``equal``, the paper's formula; ``trace`` weights task i by its share of
            tr(G_i), the coefficients that the paper's configuration of Chain of Merges reports.
        off_diagonal: see :func:`regmean`.
        per_row: see :func:`gram_matrix`.

    Raises:
        ValueError: a target does not run exactly once, the targets are not in the order in which
            they run, or the numbers of tasks differ.
        UpdateError: an update holds NaN or infinity or does not fit the model.
    """
    if len(inputs) != len(updates) or not updates:
        raise Trap2Error(
            f"{len(updates)} updates and inputs of {len(inputs)} tasks: each task gives one of each"
        )
    result = DataMerge()

    def regressions() -> Iterator[_GroupRegression]:
        for group in shared_inputs(model, targets, inputs[0][0]):
            weights = {key: model.get_parameter(key) for key in (f"{t}.weight" for t in group)}
            tasks = {k: layer_updates(updates, k, tuple(w.shape)) for k, w in weights.items()}
            yield _GroupRegression(group[0], tasks, weighting, off_diagonal)

    with evaluating(model), ExitStack() as merged_below:
        groups = list(regressions())
        if not chain:
            for batches, update in zip(inputs, updates, strict=True):
                with AppliedUpdate(model, dense_layers(update)) as applied:
                    applied.set(1.0)
                    _add_grams(groups, model, batches, per_row)
        for group in groups:
            if chain:
                for batches in inputs:
                    _add_grams([group], model, batches, per_row)
            solved = group.solve(result)
            if chain:
                merged_below.enter_context(AppliedUpdate(model, solved)).set(1.0)
    return result


class _GroupRegression:
    """The regressions of layers that share their input; tasks are added in order."""

    def __init__(
        self,
        first: str,
        updates: Mapping[str, Sequence[LayerUpdate]],
        weighting: Weighting,
        off_diagonal: float,
    ) -> None:
        self.first = first
        self.weighting = weighting
        self.off_diagonal = off_diagonal
        self._updates = updates
        self._regressions = {layer: GramRegression() for layer in updates}
        self._traces: list[Tensor] = []

    def add(self, gram: Tensor) -> None:
        """Add the next task's Gram matrix."""
        task = len(self._traces)
        self._traces.append(gram.trace())
        gram = damp_off_diagonal(gram, self.off_diagonal)
        if self.weighting == "trace":
            # The shares' common divisor cancels in the solution.
            gram = gram * self._traces[-1]
        for layer, regression in self._regressions.items():
            regression.add(self._updates[layer][task], gram)

    def solve(self, result: DataMerge) -> dict[str, Tensor]:
        """The merged ΔW of the group's layers, also written into ``result``."""
        traces = torch.stack(self._traces)
        solved = {layer: each.solve().float() for layer, each in self._regressions.items()}
        self._regressions.clear()
        result.merged.update(solved)
        result.coefficients.update(dict.fromkeys(solved, traces / traces.sum()))
        return solved


def _add_grams(
    groups: Sequence[_GroupRegression], model: nn.Module, batches: Sequence[Tensor], per_row: bool
) -> None:
    """Add one task's Gram matrices, of inputs in ``model`` as it is, to each group."""
    firsts = [group.first for group in groups]
    sums = [_GramSum() for _ in groups]
    for batch in batches:
        seen = record_inputs(model, firsts, batch)
        for total, first in zip(sums, firsts, strict=True):
            total.add(seen[first])
    for group, total in zip(groups, sums, strict=True):
        group.add(total.mean() if per_row else total.gram)


class _GramSum:
    """A Gram matrix over batches."""

    def __init__(self) -> None:
        self.gram = torch.zeros((), dtype=EXACT)
        self.rows = 0

    def add(self, inputs: Tensor) -> None:
        self.gram = self.gram + gram_matrix(inputs, per_row=False).cpu()
        self.rows += inputs[..., 0].numel()

    def mean(self) -> Tensor:
        return self.gram / self.rows


class _AllSeen(Exception):
    """Every wanted input has been recorded: the rest of the forward pass is not needed."""


def record_inputs(model: nn.Module, targets: Sequence[str], batch: Tensor) -> dict[str, Tensor]:
    """The input of each target module in one forward pass, in the order in which they run.

    The pass ends at the last target.

    Raises:
        ValueError: a target does not run.
    """
    seen: dict[str, Tensor] = {}

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if name in seen:
                raise Trap2Error(f"module {name} runs more than once in a forward pass")
            seen[name] = args[0]
            if len(seen) == len(targets):
                raise _AllSeen

        return hook

    handles = [model.get_submodule(t).register_forward_pre_hook(record(t)) for t in targets]
    try:
        with torch.no_grad():
            model(batch)
    except _AllSeen:
        return seen
    finally:
        for handle in handles:
            handle.remove()
    missing = [target for target in targets if target not in seen]
    raise Trap2Error(f"module {missing[0]} does not run in a forward pass")


def shared_inputs(model: nn.Module, targets: Sequence[str], batch: Tensor) -> list[list[str]]:
    """Group the targets that read one and the same tensor (q, k and v of an attention).

    Raises:
        ValueError: the targets are not in the order in which they run, or one does not run once.
    """
    seen = record_inputs(model, targets, batch)
    if list(seen) != list(targets):
        wrong = next(a for a, b in zip(targets, seen, strict=True) if a != b)
        raise Trap2Error(
            f"targets are not in the order in which they run: {wrong} is listed before "
            f"{next(b for a, b in zip(targets, seen, strict=True) if a != b)}"
        )
    groups: list[list[str]] = []
    for target, tensor in seen.items():
        # ``seen`` keeps the tensors alive, so equal addresses are equal tensors.
        if groups and _same(tensor, seen[groups[-1][0]]):
            groups[-1].append(target)
        else:
            groups.append([target])
    return groups


def _same(one: Tensor, other: Tensor) -> bool:
    return (
        one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
