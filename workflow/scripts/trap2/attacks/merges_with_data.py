"""Merging methods that see a sample of every task, as attacks: they may find their way around s."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from trap2.attacks.fresh import budgets
from trap2.attacks.stage import Merge, Stage
from trap2.merging.catalogue import METHODS
from trap2.merging.regression import DataMerge, shared_inputs
from trap2.merging.sample import Sample
from trap2.models.layers import block_names
from trap2.runtime.catalogue import Options


def merge_with_data(stage: Stage, method: str, options: Options, *, size: int) -> Iterator[Merge]:
    """Merge all published updates with unlabelled training images of every task.

    Args:
        stage: where.
        method: a merging method that needs a sample.
        options: the method's, with ``images`` a task and ``points``
            (:func:`~trap2.attacks.fresh.budgets`). AdaMerging's curve is over images and over
            steps, the others' over images: ProDistill goes through fewer images more often, also
            where there are fewer than were asked for.
        size: images of a batch.

    Yields:
        A merge for each budget, at s = 1.
    """
    entry = METHODS[method]
    assert entry.with_data is not None, f"{method} needs no data"
    own = dict(entry.check_options({key: options[key] for key in entry.options}))
    for images, iterations in _budgets(options):
        inputs = [
            stage.sample(task, images, labelled=False).inputs.split(size) for task in stage.tasks
        ]
        sample = Sample(
            stage.model,
            stage.targets,
            inputs,
            [task.logits for task in stage.tasks.values()],
            block_names(stage.model),
            stage.torch_seed(method),
        )
        counts = [sum(map(len, batches)) for batches in inputs]
        if "iterations" in own:
            own["iterations"] = iterations
        if "epochs" in own:
            own["epochs"] = _epochs(stage, options, sum(counts))
        found = entry.with_data(sample, list(stage.updates.values()), own)
        steps = _count(stage, method, sample, own, sum(counts))
        count = max(counts)
        budget = {"images": count, "steps": steps}
        yield Merge(found.merged, found=_shares(stage, found), budget=budget)


def _budgets(options: Options) -> Iterator[tuple[int, int]]:
    """The points (images a task, iterations) of a method's curve."""
    if "iterations" in options:
        return budgets(options["images"], options["iterations"], options["points"])
    every = budgets(options["images"], 1, options["points"])
    return iter(dict.fromkeys(every))


def _epochs(stage: Stage, options: Options, images: int) -> int:
    """The passes over so many images in as many steps as the images that were asked for take."""
    asked = options["images"] * len(stage.tasks)
    a_pass, last = (-(-n // options["batch_size"]) for n in (images, asked))
    found: int = -(-options["epochs"] * last // a_pass)
    return found


def _count(stage: Stage, method: str, sample: Sample, own: Options, images: int) -> int:
    """Count the passes that do not go through the whole model; the method's steps."""
    if method == "ProDistill":
        blocks, epochs = len(sample.blocks), own["epochs"]
        # Teachers and merged blocks are run up to each block, and each block in every epoch.
        stage.meter.add(forward=(blocks + 1 + epochs) * images, backward=epochs * images)
        steps: int = blocks * epochs * -(-images // own["batch_size"])
        return steps
    if method == "CoM":
        groups = len(shared_inputs(sample.model, sample.targets, sample.inputs[0][0][:1]))
        stage.meter.add(forward=(groups + 1) / 2 * images)
        return 0
    if method == "RegMean":
        stage.meter.add(forward=images)
        return 0
    found: int = own["iterations"]
    return found


def _shares(stage: Stage, found: DataMerge) -> dict[str, object]:
    """The mean over the layers of what the method says of every task."""
    means = torch.stack(list(found.coefficients.values())).double().mean(0).tolist()
    return {"coefficients": dict(zip(stage.tasks, means, strict=True))}
