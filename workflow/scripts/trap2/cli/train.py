"""``trap2 train``: fine-tune one update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from trap2.cli.options import (
    FOLDER,
    Finite,
    base_option,
    chosen_device,
    data_option,
    device_options,
    logit_scale_option,
    named_options,
    output_folder_option,
    seed_option,
    setting_option,
)
from trap2.protection.catalogue import PROTECTIONS, needs_partners, trained_protections
from trap2.protection.settings import Trap2Settings
from trap2.runtime.catalogue import Value
from trap2.training.settings import Optimisation, TrainingParams
from trap2.updates.settings import AdapterSettings

OPTIMISATION = (
    *("learning_rate", "steps", "batch_size", "micro_batch_size", "warmup_steps"),
    *("evaluate_every", "patience"),
)


ADAPTER = ("rank", "alpha", "dropout")


OBJECTIVE = ("weighting", "s_min", "s_max", "delta")


def _trained(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    """A name of the catalogue, looked up when the plugins have been loaded."""
    if PROTECTIONS[name].objective is None:
        known = ", ".join(trained_protections())
        raise click.BadParameter(f"{name} is not trained (trap2 protect); choose from {known}")
    return name


def _settings(function: Any) -> Any:
    groups = ((Optimisation, OPTIMISATION), (AdapterSettings, ADAPTER), (Trap2Settings, OBJECTIVE))
    for settings, names in reversed(groups):
        for name in reversed(names):
            function = setting_option(settings, name)(function)
    return function


@click.command(short_help="Fine-tune an update, plain or with TRAP².")
@base_option
@data_option(multiple=False)
@output_folder_option("the update and its record update.json")
@click.option(
    "--lambda",
    "lambda_",
    type=Finite(0, 100),
    help="λ of the TRAP² objective (Eq. 9), or of another trained protection's; without it the "
    "update is unprotected.",
)
@click.option(
    "--protection",
    default="trap2",
    show_default=True,
    metavar="NAME",
    callback=_trained,
    help="The trained protection whose λ (MergeGuard: α) is given: "
    f"{', '.join(trained_protections())}, or a plugin's.",
)
@named_options("--protection-option", "An option of another protection than trap2.")
@click.option(
    "--partner",
    "partners",
    type=FOLDER,
    multiple=True,
    help="Another task's unprotected update, for a protection that is trained against such "
    "(trap2-mixed with other=task).",
)
@click.option(
    "--start",
    type=FOLDER,
    help="The task's unprotected update, for a protection whose training starts from it "
    "(mergeguard).",
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
    protection: str,
    options: dict[str, float | str],
    partners: tuple[Path, ...],
    start: Path | None,
    release_format: str,
    logit_scale: float,
    seed: int,
    device: str,
    threads: int,
    **settings: Any,
) -> None:
    """Fine-tune one update of a base model on one task, plain or with a trained protection.

    Writes a PEFT adapter (or the whole checkpoint) and update.json with its settings and
    accuracies. With a suite's settings the update has the bytes of the workflow's. If training
    is cut off, the same command goes on from its last checkpoint.

    \b
    Example:
      trap2 train --base results/demo/ViT-demo --data results/demo/data/digits/32 \\
        --lambda 0.05 --learning-rate 0.006 --steps 750 --batch-size 16 \\
        --warmup-steps 20 --evaluate-every 750 --output mine/digits-trap2
    """
    from trap2.cli.inputs import Base, check_unprotected, refuse_to_replace
    from trap2.protection.applied import transform_after
    from trap2.protection.catalogue import objective_of
    from trap2.training.finetune import finetune
    from trap2.updates.key import UpdateKey
    from trap2.updates.stored import load_update

    refuse_to_replace(output / "update.json", "an update")
    objective = _given(OBJECTIVE, settings)
    adapter = _given(ADAPTER, settings)
    if objective and (lambda_ is None or protection != "trap2"):
        raise click.UsageError(f"{_flags(objective)}: only with --lambda, the TRAP² objective")
    if lambda_ is None and (options or protection != "trap2"):
        raise click.UsageError("--protection and --protection-option: only with --lambda, their λ")
    if options and protection == "trap2":
        raise click.UsageError("--protection-option: TRAP² has options of its own, see --help")
    asks = lambda_ is not None and needs_partners(protection, options or objective)
    if bool(partners) != asks:
        what = "needs at least one" if asks else "is not trained against other updates"
        raise click.UsageError(f"--partner: {protection} with these options {what}")
    if (start is not None) != (lambda_ is not None and PROTECTIONS[protection].needs_unprotected):
        what = "fresh" if start else "from the task's unprotected update; give its folder"
        raise click.UsageError(f"--start: the training of this update starts {what}")
    if release_format == "full" and adapter:
        raise click.UsageError(f"{_flags(adapter)}: a whole checkpoint has no adapter")
    base_model = Base(base)
    task, task_files = base_model.task(data, "train", "val", "test")
    if start is not None:
        check_unprotected(start, task)
    name = "unprotected" if lambda_ is None else protection
    key = UpdateKey(None, base_model.name, release_format, task, name)
    form: TrainingParams = {"optimisation": _given(OPTIMISATION, settings)}
    finetune(
        model=base_model.weights,
        head=base_model.head(task),
        data=task_files,
        folder=output,
        key=key,
        backbone=base_model.backbone,
        training=form | ({"adapter": adapter} if release_format == "lora" else {}),
        objective=None
        if lambda_ is None
        else objective_of(protection, lambda_, options or objective),
        logit_scale=logit_scale,
        seed=seed,
        device=chosen_device(device, threads),
        log=click.echo,
        partners={str(folder): load_update(folder, base_model.weights) for folder in partners},
        finish=None if lambda_ is None else transform_after(key, options, seed),
        start=start,
    )


def _given(names: tuple[str, ...], settings: Mapping[str, Value]) -> dict[str, Value]:
    return {name: settings[name] for name in names if settings[name] is not None}


def _flags(settings: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in settings)
