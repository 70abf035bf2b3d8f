"""AdaMerging (arXiv:2310.02575): coefficients that lower the entropy of the predictions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call

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
    sample: Sample, updates: Sequence[Update], options: Options, *, layerwise: bool
) -> DataMerge:
    """AdaMerging of low-rank updates, as an entry of the catalogue calls it.

    Args:
        sample: unlabelled inputs of every task; each step takes the next batch of each.
        updates: one a task.
        options: ``coefficient``, ``iterations`` and ``learning_rate``.
        layerwise: one λ a task and layer, instead of one a task.

    Returns:
        Σ_i λ_i ΔW_i at s = 1, and the λ that were found.
    """
    model, layers = sample.model, [f"{target}.weight" for target in sample.targets]
    base = {layer: model.get_parameter(layer).detach() for layer in layers}
    deltas = [
        {layer: dense(delta).to(base[layer]) for layer, delta in update.items() if layer in base}
        for update in updates
    ]
    batches = [itertools.cycle(inputs) for inputs in sample.inputs]

    def objective(coefficients: Tensor) -> Tensor:
        weights = combined_weights(base, deltas, coefficients)
        outputs = (functional_call(model, weights, (next(each),)) for each in batches)
        return adamerging_objective(
            [logits(output) for logits, output in zip(sample.logits, outputs, strict=True)]
        )

    start = torch.full(
        (len(base) if layerwise else 1, len(updates)),
        float(options["coefficient"]),
        device=next(iter(base.values())).device,
    )
    with _without_gradients(model):
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


@contextmanager
def _without_gradients(model: nn.Module) -> Iterator[None]:
    """Keep a model's own weights out of what is differentiated."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
