"""``trap2 search``: the best a merger can do with some updates."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from trap2.cli.options import (
    FILE,
    FOLDER,
    base_option,
    batch_size_option,
    chosen_device,
    data_option,
    device_options,
    logit_scale_option,
    merge_options,
    setting_option,
    updates_option,
)
from trap2.merging.settings import Search, grid_problem


@click.command(short_help="Merge updates and search the best coefficient on validation.")
@base_option
@data_option(multiple=True)
@updates_option("The folder of an update to merge; give it several times.")
@click.option(
    "--reference",
    "references",
    type=FOLDER,
    multiple=True,
    help="A task's unprotected update; its validation accuracy is 100 % of that task. By default "
    "the update to merge of the same task.",
)
@merge_options
@setting_option(Search, "step")
@setting_option(Search, "maximum")
@setting_option(Search, "patience")
@click.option(
    "--second-hyperparameter",
    is_flag=True,
    help="Also search TIES' and DARE's ratio and CART's rank.",
)
@click.option("--output", type=FILE, required=True, help="A JSON file for the result.")
@batch_size_option
@logit_scale_option
@device_options
def search(
    base: Path,
    data: tuple[Path, ...],
    updates: tuple[Path, ...],
    references: tuple[Path, ...],
    method: str,
    space: str,
    options: dict[str, float | str],
    output: Path,
    batch_size: int,
    logit_scale: float,
    device: str,
    threads: int,
    **search: Any,
) -> None:
    """Merge updates, search the coefficient s on validation, read the test split once.

    What is searched is the mean over the tasks of validation accuracy divided by the reference's
    (Appendix D.6), as for each cell of Table 2.

    \b
    Example:
      trap2 search --base results/demo/ViT-demo \\
        --data results/demo/data/digits/32 --data results/demo/data/letters/32 \\
        --update results/demo/ViT-demo/lora/digits/trap2 \\
        --update results/demo/ViT-demo/lora/letters/unprotected \\
        --reference results/demo/ViT-demo/lora/digits/unprotected \\
        --method TA --output mine/search.json
    """
    from trap2.cli.inputs import Base, digests, load
    from trap2.data.prepared import notes
    from trap2.evaluation.cells import search_cell
    from trap2.evaluation.tasks import Scorer, reference_accuracy
    from trap2.merging.merger import Merger
    from trap2.models.clip.classifier import open_classifier
    from trap2.models.clip.tower import load_tower
    from trap2.runtime import files
    from trap2.runtime.versions import versions

    settings = Search(**{name: value for name, value in search.items() if value is not None})
    if problem := grid_problem(settings.step, settings.maximum, "--"):
        raise click.UsageError(problem)
    base_model = Base(base)
    prepared = dict(base_model.task(folder, "val", "test") for folder in data)
    records = _references(list(prepared), updates, references)
    every = [path for paths in prepared.values() for path in paths]
    place = chosen_device(device, threads)
    model = load_tower(base_model.weights, base_model.backbone, place)
    tasks = {
        task: open_classifier(
            base_model.head(task),
            paths,
            task,
            ("val", "test"),
            logit_scale=logit_scale,
            batch_size=batch_size,
            device=place,
        )
        for task, paths in prepared.items()
    }
    scorer = Scorer(model, tasks, dict(map(reference_accuracy, records)))
    merger = Merger([load(folder, base_model) for folder in updates], space)
    cell = search_cell(scorer, merger, method, options, settings)
    record = {
        "backbone": base_model.name,
        "tasks": list(prepared),
        "merge_method": method,
        "merge_space": space,
        "search": asdict(settings),
        "updates": digests(updates),
        "versions": versions(),
        "notes": notes(every),
    }
    files.write_json(output, record | cell)
    click.echo(
        f"{method}-{space}: s = {cell['coefficient']:g}, normalised validation accuracy "
        f"{cell['normalised_val_accuracy']:.2f} % ({len(cell['trace'])} values tried, on "
        f"{cell['images']['validated']} images)"
    )
    for task, score in cell["test"].items():
        click.echo(f"{task}, test: accuracy {score['accuracy']:.2f} % ({score['count']} images)")


def _references(
    tasks: list[str], updates: tuple[Path, ...], references: tuple[Path, ...]
) -> list[str]:
    """The records whose validation accuracies are 100 %, one a task."""
    from trap2.cli.inputs import record_of
    from trap2.runtime import files

    found = {record_of(folder)["task"]: folder for folder in references}
    for folder in updates:
        # An update without a record, from elsewhere, can be merged beside a reference.
        if (folder / "update.json").exists():
            found.setdefault(record_of(folder)["task"], folder)
    for task in tasks:
        if task not in found:
            raise files.FileError(
                f"no reference accuracy for {task}: no --update or --reference has an update.json "
                "of this task. Give its unprotected update as --reference."
            )
    return [str(found[task] / "update.json") for task in tasks]
