"""``trap2 train``: fine-tune one update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trap2.cli.options import (
    base_option,
    chosen_device,
    data_option,
    device_options,
    logit_scale_option,
    output_folder_option,
    seed_option,
)

COUNT = click.IntRange(min=1)


# Name of the setting, kind, default and help.  The defaults stand in the library and are only
# shown here.
OPTIMISATION: tuple[tuple[str, click.ParamType[Any], float, str], ...] = (
    ("learning_rate", click.FloatRange(0, 1, min_open=True), 3e-4, "AdamW's peak learning rate."),
    ("steps", COUNT, 100_000, "Optimiser steps at most."),
    ("batch_size", COUNT, 32, "Images a step."),
    ("micro_batch_size", COUNT, 32, "Images a forward pass; fewer need less memory."),
    ("warmup_steps", click.IntRange(min=0), 500, "Steps of linear warm-up, then a cosine."),
    ("evaluate_every", COUNT, 2000, "Steps between validations; the best weights are kept."),
    ("patience", COUNT, 5, "Validations without improvement before training stops."),
)


ADAPTER: tuple[tuple[str, click.ParamType[Any], float, str], ...] = (
    ("rank", COUNT, 16, "LoRA rank r."),
    ("alpha", COUNT, 16, "LoRA α; the nominal scale is α / r."),
    ("dropout", click.FloatRange(0, 1, max_open=True), 0.1, "Dropout on the adapter's input."),
)


OBJECTIVE: tuple[tuple[str, click.ParamType[Any], float | str, str], ...] = (
    ("weighting", click.Choice(["1/s", "1/sqrt(s)", "1"]), "1/s", "w(s) of Eq. 8."),
    ("s_min", click.FLOAT, 0.05, "Smallest off-nominal scale."),
    ("s_max", click.FLOAT, 2.0, "Largest off-nominal scale."),
    ("delta", click.FLOAT, 0.05, "Margin around s = 1 that is never drawn."),
)


SETTINGS = (*OPTIMISATION, *ADAPTER, *OBJECTIVE)


def _settings(function: Any) -> Any:
    for name, kind, default, text in reversed(SETTINGS):
        flag = f"--{name.replace('_', '-')}"
        function = click.option(flag, name, type=kind, show_default=f"{default}", help=text)(
            function
        )
    return function


@click.command(short_help="Fine-tune an update, plain or with TRAP².")
@base_option
@data_option(multiple=False)
@output_folder_option("the update and its record update.json")
@click.option(
    "--lambda",
    "lambda_",
    type=float,
    help="λ of the TRAP² objective (Eq. 9); without it the update is unprotected.",
)
@click.option(
    "--release-format",
    type=click.Choice(["lora", "full"]),
    default="lora",
    show_default=True,
    help="What is released: a LoRA adapter, or the whole checkpoint.",
)
@_settings
@logit_scale_option
@seed_option
@device_options
def train(
    base: Path,
    data: Path,
    output: Path,
    lambda_: float | None,
    release_format: str,
    logit_scale: float,
    seed: int,
    device: str,
    threads: int,
    **settings: Any,
) -> None:
    """Fine-tune one update of a base model on one task, plain or with TRAP².

    Writes a PEFT adapter (or the whole checkpoint) and update.json with its settings and
    accuracies. With a suite's settings the update has the bytes of the workflow's. If training
    is cut off, the same command goes on from its last checkpoint.

    \b
    Example:
      trap2 train --base results/demo/ViT-demo --data results/demo/data/digits/32 \\
        --lambda 0.05 --learning-rate 0.006 --steps 750 --batch-size 16 \\
        --warmup-steps 20 --evaluate-every 750 --output mine/digits-trap2
    """
    from trap2.cli.inputs import Base, refuse_to_replace
    from trap2.protection.catalogue import objective_of
    from trap2.training.finetune import finetune
    from trap2.updates.key import UpdateKey

    refuse_to_replace(output / "update.json", "an update")
    objective = _given(OBJECTIVE, settings)
    adapter = _given(ADAPTER, settings)
    if lambda_ is None and objective:
        raise click.UsageError(f"{_flags(objective)}: only with --lambda, the TRAP² objective")
    if release_format == "full" and adapter:
        raise click.UsageError(f"{_flags(adapter)}: a whole checkpoint has no adapter")
    base_model = Base(base)
    task, task_files = base_model.task(data, "train", "val", "test")
    protection = "unprotected" if lambda_ is None else "trap2"
    form: dict[str, Any] = {"optimisation": _given(OPTIMISATION, settings)}
    finetune(
        model=base_model.weights,
        head=base_model.head(task),
        data=task_files,
        folder=output,
        key=UpdateKey(None, base_model.name, release_format, task, protection),
        backbone=base_model.backbone,
        training=form | ({"adapter": adapter} if release_format == "lora" else {}),
        objective=None if lambda_ is None else objective_of("trap2", lambda_, objective),
        logit_scale=logit_scale,
        seed=seed,
        device=chosen_device(device, threads),
        log=click.echo,
    )


def _given(
    group: tuple[tuple[str, Any, Any, str], ...], settings: dict[str, Any]
) -> dict[str, Any]:
    return {name: settings[name] for name, *_ in group if settings[name] is not None}


def _flags(settings: dict[str, Any]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in settings)
