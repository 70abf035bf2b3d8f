"""``trap2 evaluate``: accuracy and loss of an update, at one scale or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from trap2.cli.options import (
    COEFFICIENT,
    FILE,
    FOLDER,
    base_option,
    batch_size_option,
    chosen_device,
    data_option,
    device_options,
    logit_scale_option,
)


@click.command(short_help="Score an update, a merge or the base model on a task.")
@base_option
@data_option(multiple=False)
@click.option(
    "--update",
    type=FOLDER,
    help="The folder of an update or of a merge; without it the base model is scored zero-shot.",
)
@click.option(
    "--scale",
    "scales",
    type=COEFFICIENT,
    multiple=True,
    help="s in W0 + s·ΔW; give it several times for a profile.  [default: 1]",
)
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="test",
    show_default=True,
    help="Which images.",
)
@click.option("--output", type=FILE, help="A JSON file for the scores.")
@batch_size_option
@logit_scale_option
@device_options
def evaluate(
    base: Path,
    data: Path,
    update: Path | None,
    scales: tuple[float, ...],
    split: str,
    output: Path | None,
    batch_size: int,
    logit_scale: float,
    device: str,
    threads: int,
) -> None:
    """Score an update, a merge or the base model with a task's zero-shot head.

    \b
    Example, the update's landscape over its scale:
      trap2 evaluate --base results/demo/ViT-demo --data results/demo/data/digits/32 \\
        --update results/demo/ViT-demo/lora/digits/trap2 --scale 0.5 --scale 1 --scale 1.5
    """
    from trap2.cli.inputs import Base, digests, load
    from trap2.data.prepared import check_split
    from trap2.evaluation.scale_sweep import sweep_scale
    from trap2.models.clip.classifier import open_classifier
    from trap2.models.clip.tower import load_tower
    from trap2.models.scoring import score_record
    from trap2.runtime import files
    from trap2.updates.records import ScoreRecord

    if scales and update is None:
        raise click.UsageError("--scale: only with --update; the base model has no scale")
    base_model = Base(base)
    task, task_files = base_model.task(data, split)
    place = chosen_device(device, threads)
    model = load_tower(base_model.weights, base_model.backbone, place)
    part = check_split(split)
    classifier = open_classifier(
        base_model.head(task),
        task_files,
        task,
        [part],
        logit_scale=logit_scale,
        batch_size=batch_size,
        device=place,
    )
    scores: Sequence[ScoreRecord]
    if update is None:
        scores = [score_record(classifier.score(model, part))]
    else:
        delta = load(update, base_model)
        scores = sweep_scale(model, classifier, part, delta, scales or (1.0,))
    for found in scores:
        where = f"s = {found.get('s'):g}" if update else "zero-shot"
        click.echo(
            f"{task}, {split}, {where}: accuracy {found['accuracy']:.2f} %, loss "
            f"{found['loss']:.4f} ({found['count']} images)"
        )
    if output is not None:
        record = {"backbone": base_model.name, "task": task, "split": split, "scores": scores}
        files.write_json(output, record | {"updates": digests([update] if update else [])})
