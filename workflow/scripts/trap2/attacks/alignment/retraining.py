"""GRADERASE on a stage: labelled retraining of the merge, blind to an estimated task vector.

MergeGuard's Section 7 leaves start, data, optimiser and the direction open.  Ours: the start is the
merge of Task Arithmetic, the direction is what the same training from W0 adds to it, both are SGD
on the same images and train the weights that the updates hold; the loss is the mean over tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from trap2.attacks.alignment.graderase import Loss, descend
from trap2.attacks.fresh import budgets
from trap2.attacks.stage import Merge, Stage
from trap2.models.task import Batch
from trap2.runtime.catalogue import Options

Weights = Mapping[str, torch.Tensor]


def graderase(stage: Stage, options: Options) -> Iterator[Merge]:
    """Retrain the merge with gradients orthogonal to τ_G.

    Args:
        stage: where the attack happens.
        options: labelled ``images`` a task, all of them if there are fewer, and ``steps`` of the
            retraining, as many for τ_G, both at the last of ``points``; ``batch``, images a task
            and step; the constant ``learning_rate`` and ``momentum`` of both trainings.

    Yields:
        A merge for each budget of :func:`trap2.attacks.fresh.budgets`.
    """
    for images, steps in budgets(options["images"], options["steps"], options["points"]):
        yield _retrained(stage, options, images, steps)


def _retrained(stage: Stage, options: Options, images: int, steps: int) -> Merge:
    samples = {task: stage.sample(task, images, labelled=True) for task in stage.tasks}
    merge = stage.merge_by_ta(stage.updates)
    origin = {layer: stage.base[layer] for layer in merge.delta}
    start = {
        layer: origin[layer] + merge.scale * part.reshape(origin[layer].shape).to(origin[layer])
        for layer, part in merge.delta.items()
    }

    def trained(use: str, begin: Weights, direction: Weights | None = None) -> Weights:
        return descend(
            _loss(stage, samples, options["batch"], use),
            begin,
            steps,
            options["learning_rate"],
            momentum=options["momentum"],
            direction=direction,
        )

    tuned = trained("direction", origin)
    direction = {layer: weight - origin[layer] for layer, weight in tuned.items()}
    final = trained("retraining", start, direction)
    return Merge(
        {layer: weight - origin[layer] for layer, weight in final.items()},
        found={"coefficient": merge.scale},
        budget={"images": max(map(len, samples.values())), "steps": steps},
    )


def _loss(stage: Stage, samples: Mapping[str, Batch], batch: int, use: str) -> Loss:
    def loss(weights: Mapping[str, torch.Tensor], step: int) -> torch.Tensor:
        def model(inputs: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = torch.func.functional_call(stage.model, dict(weights), (inputs,))
            return output

        total = torch.zeros(())
        for task, sample in samples.items():
            order = stage.generator(use, task, str(step)).permutation(len(sample))[:batch]
            chosen = torch.from_numpy(order).to(sample.labels.device)
            part = Batch(sample.inputs[chosen], sample.labels[chosen])
            total = total.to(sample.inputs.device) + stage.tasks[task].loss(model, part)
        return total / len(samples)

    return loss
