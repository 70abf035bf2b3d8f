"""AdaMerging (arXiv:2310.02575): coefficients that lower the entropy of the predictions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call

from trap2.merging import elementwise
from trap2.merging.regression import DataMerge, Tensor
from trap2.merging.sample import Sample
from trap2.runtime.catalogue import Options
from trap2.updates.delta import Update, dense


def softmax_entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax over the last dimension of (…, classes) logits, in nats."""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def adamerging_objective(logits: Sequence[Tensor]) -> Tensor:
    """AdaMerging's objective: Σ over tasks of the batch's mean softmax entropy.

    Args:
        logits: one (batch, classes) a task, from unlabelled images of the task.
    """
    return torch.stack([softmax_entropy(task).mean() for task in logits]).sum()


def combined_weights(
    base: Mapping[str, Tensor], updates: Sequence[Mapping[str, Tensor]], coefficients: Tensor
) -> dict[str, Tensor]:
    """W0 + Σ_i λ_i ΔW_i, differentiable in λ, which is clamped to [0, 1].

    Args:
        base: layer to W0.
        updates: one dense update a task; a layer that it lacks is zero.
        coefficients: (1, N), one λ a task, or (layers, N), one a task and layer of ``base``.
    """
    rows = coefficients.clamp(0, 1).expand(len(base), -1)
    combined = {}
    for (layer, weight), row in zip(base.items(), rows, strict=True):
        parts = [r * u[layer] for r, u in zip(row, updates, strict=True) if layer in u]
        combined[layer] = weight + sum(parts)
    return combined


def adamerge(
    objective: Callable[[Tensor], Tensor],
    coefficients: Tensor,
    *,
    iterations: int = 500,
    learning_rate: float = 1e-3,
) -> tuple[Tensor, list[float]]:
    """Minimise AdaMerging's objective over the coefficients with Adam.

    Args:
        objective: from the unclamped coefficients to the objective on the next batches
            (:func:`combined_weights` clamps, so a coefficient outside [0, 1] has no gradient).
        coefficients: initial λ (0.3 in AdaMerging), (1, N) or (layers, N).
        iterations: steps, at least 0.
        learning_rate: Adam's, with betas (0.9, 0.999).

    Returns:
        The coefficients, unclamped, and the objective before each step.
    """
    raw = coefficients.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([raw], lr=learning_rate, betas=(0.9, 0.999))
    losses = []
    for _ in range(iterations):
        optimiser.zero_grad()
        loss = objective(raw)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return raw.detach(), losses


def merge_sample(
    sample: Sample,
    updates: Sequence[Update],
    options: Options,
    *,
    layerwise: bool,
    plusplus: bool = False,
) -> DataMerge:
    """AdaMerging of updates, as an entry of the catalogue calls it.

    Every tensor that an update holds is merged: an adapter's matrices, a checkpoint's biases and
    norms as well.

    Args:
        sample: unlabelled inputs of every task.
        updates: one a task.
        options: ``coefficient``, ``iterations``, ``learning_rate``, ``batches`` (a task and step),
            ``order`` (the next ones of the sample as it is ``given``, or ``shuffled``) and, for
            ++, ``keep``.
        layerwise: one λ a task and tensor, instead of one a task.
        plusplus: of the updates, what :func:`agreeing_updates` leaves.

    Returns:
        Σ_i λ_i ΔW_i at s = 1, and the λ that were found.
    """
    model = sample.model
    base = _base(sample, updates)
    dense_updates = [
        {layer: dense(update[layer]) for layer in base if layer in update} for update in updates
    ]
    if plusplus:
        dense_updates = agreeing_updates(dense_updates, options["keep"])
    deltas = [{n: delta.to(base[n]) for n, delta in update.items()} for update in dense_updates]
    generator = torch.Generator().manual_seed(sample.seed)
    batches = [
        shuffled(inputs, options["batches"], generator)
        if options["order"] == "shuffled"
        else itertools.cycle(inputs)
        for inputs in sample.inputs
    ]

    def next_entropies(weights: dict[str, Tensor]) -> Tensor:
        outputs = (functional_call(model, weights, (next(each),)) for each in batches)
        return adamerging_objective(
            [logits(output) for logits, output in zip(sample.logits, outputs, strict=True)]
        )

    def objective(coefficients: Tensor) -> Tensor:
        weights = combined_weights(base, deltas, coefficients)
        total = next_entropies(weights)
        for _ in range(1, options["batches"]):
            total = total + next_entropies(weights)
        return total

    first = next(iter(base.values()))
    start = first.new_full((len(base) if layerwise else 1, len(updates)), options["coefficient"])
    with without_gradients(model):
        found, _ = adamerge(
            objective,
            start,
            iterations=options["iterations"],
            learning_rate=options["learning_rate"],
        )
    rows = found.clamp(0, 1).expand(len(base), -1)
    merged = combined_weights({n: torch.zeros_like(w) for n, w in base.items()}, deltas, found)
    shares = {layer: row.double().cpu() for layer, row in zip(base, rows, strict=True)}
    return DataMerge({layer: delta.float() for layer, delta in merged.items()}, shares)


def shuffled(
    inputs: Sequence[Tensor], batches: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Endless batches as the authors' code draws them: the first few of a new shuffle, each step.

    Args:
        inputs: batches of a task; those that come are as large as the first of them.
        batches: of a step; they begin again where the sample has fewer.
        generator: draws.
    """
    images, size = torch.cat(list(inputs)), len(inputs[0])
    while True:
        parts = torch.randperm(len(images), generator=generator).to(images.device).split(size)
        for place in range(batches):
            yield images[parts[place % len(parts)]]


def _base(sample: Sample, updates: Sequence[Update]) -> dict[str, Tensor]:
    """W0 of the adapted layers, in their order, and of whatever else an update holds."""
    weights = sample.model.state_dict()
    adapted = [f"{target}.weight" for target in sample.targets]
    others = [n for n in weights if n not in adapted and any(n in update for update in updates)]
    return {layer: weights[layer].detach() for layer in (*adapted, *others)}


def agreeing_updates(
    updates: Sequence[Mapping[str, Tensor]], keep: float
) -> list[dict[str, Tensor]]:
    """What AdaMerging++ merges: each update's largest entries that have the elected sign.

    TIES on whole updates without its mean: the largest ``keep`` percent of each update, over all
    its tensors together; the sign of their sum is elected, and what disagrees is zero.

    Args:
        updates: one a task, dense, by layer; a layer that it lacks is zero.
        keep: percent of each update's entries to keep, 0 < keep ≤ 100 (20 in AdaMerging).
    """
    shapes = {layer: delta for update in updates for layer, delta in update.items()}

    def stacks() -> Iterator[Tensor]:
        for layer, like in shapes.items():
            yield torch.stack([update.get(layer, torch.zeros_like(like)) for update in updates])

    thresholds = elementwise.whole_update_thresholds(stacks, keep)
    balance = sum(
        float(elementwise.elected_signs(tasks, thresholds).sum(dtype=elementwise.SUM))
        for tasks in stacks()
    )
    majority = float(balance > 0) - float(balance < 0)
    found: list[dict[str, Tensor]] = [{} for _ in updates]
    for layer, tasks in zip(shapes, stacks(), strict=True):
        kept = elementwise.trim(tasks, thresholds)
        signs = elementwise.elected_signs(tasks, thresholds)
        kept[kept * torch.where(signs == 0, majority, signs) <= 0] = 0
        for update, delta in zip(found, kept, strict=True):
            update[layer] = delta
    return found


@contextmanager
def without_gradients(model: nn.Module) -> Iterator[None]:
    """Keep a model's own weights out of what is differentiated."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
