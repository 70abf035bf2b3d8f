"""What an attacker trains himself: an update of his own, in the form of the published ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch

from trap2.attacks.stage import Merge, Stage
from trap2.models.task import Task
from trap2.runtime.catalogue import Options
from trap2.training.settings import Optimisation
from trap2.training.trainer import Trainer
from trap2.updates.delta import LayerUpdate, LowRank, Update, to_device
from trap2.updates.lora import LoraUpdate
from trap2.updates.settings import AdapterSettings
from trap2.updates.trainable import FullUpdate, TrainableUpdate

FACTOR = 4
"""Between the budgets of neighbouring points of a curve."""


def budgets(images: int, steps: int, points: int) -> Iterator[tuple[int, int]]:
    """The points (images a task, steps) of a curve, the cheapest first.

    First over the images at the most steps, then over the steps at the most images; each of the
    ``points`` values is four times the one before it, the last ``images`` and ``steps``.
    """
    smaller = [FACTOR**k for k in range(points - 1, 0, -1)]
    found = [(images // share, steps) for share in smaller]
    found += [(images, steps // share) for share in smaller]
    return ((max(1, n), max(1, k)) for n, k in dict.fromkeys([*found, (images, steps)]))


def train(
    stage: Stage,
    task: Task,
    options: Options,
    *,
    images: int,
    steps: int,
    validations: int,
    start: Merge | None = None,
) -> dict[str, LayerUpdate]:
    """Train a fresh update with AdamW, as an update of its release format is trained.

    Adapters have the protected one's rank and no dropout; whole checkpoints are trained whole.
    The rate rises over the first twentieth of the steps and falls along a cosine to zero.

    Args:
        stage: where; its model is copied.
        task: what is trained on, and by whose score the best weights are kept.
        options: ``learning_rate``, ``full_learning_rate`` and ``batch_size``.
        images: how many the task has.
        steps: of the optimiser.
        validations: scores during the training, at equal distances, the last at its end.
        start: the merge to start from, W0 where there is none.

    Returns:
        What was learned beyond the start, by weight name.
    """
    run = f"{stage.name}/{stage.protected}/{images}/{steps}"
    update = _attach(stage, start, stage.torch_seed("update", str(images), str(steps)))
    whole = isinstance(update, FullUpdate)
    size = min(options["batch_size"], images)
    settings = Optimisation(
        learning_rate=options["full_learning_rate" if whole else "learning_rate"],
        steps=steps,
        batch_size=size,
        micro_batch_size=size,
        warmup_steps=steps // 20,
        evaluate_every=max(1, steps // validations),
    )
    seed = stage.torch_seed("batches")
    Trainer(update, task, settings, None, seed=seed, run=run, log=lambda _: None).fit()
    return to_device(update.layers(), torch.device("cpu"))


def with_budget(merge: Merge, images: int, steps: int) -> Merge:
    """A merge as a point of a curve."""
    return replace(merge, budget={"images": images, "steps": steps})


def _attach(stage: Stage, start: Merge | None, seed: int) -> TrainableUpdate:
    # The copy keeps the hook that counts passes.
    model = copy.deepcopy(stage.model)
    if start is not None:
        weights = model.state_dict()
        with torch.no_grad():
            for name, delta in start.delta.items():
                moved = delta.reshape(weights[name].shape).to(weights[name])
                weights[name].add_(moved, alpha=start.scale)
    published = stage.updates[stage.protected]
    if any(name.removesuffix(".weight") not in stage.targets for name in published):
        return FullUpdate(model)
    rank = _rank(published)
    settings = AdapterSettings(rank=rank, alpha=rank, dropout=0.0)
    return LoraUpdate(model, list(stage.targets), settings, seed)


def _rank(update: Update) -> int:
    """The largest rank of an adapter's layers; the usual one where it is no product (DoRA)."""
    parts = (update[layer] for layer in update)
    ranks = [part.rank for part in parts if isinstance(part, LowRank)]
    return max(ranks, default=AdapterSettings().rank)
