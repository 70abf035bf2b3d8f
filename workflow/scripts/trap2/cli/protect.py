"""``trap2 protect``: a post-hoc defense of a fine-tuned update."""

from __future__ import annotations

from pathlib import Path

import click

from trap2.cli.options import (
    FOLDER,
    base_option,
    batch_size_option,
    chosen_device,
    data_option,
    device_options,
    logit_scale_option,
    named_options,
    output_folder_option,
    seed_option,
)
from trap2.protection.catalogue import PROTECTIONS, post_hoc_protections


def _post_hoc(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    """A name of the catalogue, looked up when the plugins have been loaded."""
    if PROTECTIONS[name].objective is not None:
        known = ", ".join(post_hoc_protections())
        raise click.BadParameter(f"{name} is trained (trap2 train); choose from {known}")
    return name


@click.command(short_help="Protect a fine-tuned update by a post-hoc defense.")
@base_option
@data_option(multiple=False)
@click.option("--update", type=FOLDER, required=True, help="The unprotected update's folder.")
@click.option(
    "--defense",
    required=True,
    metavar="NAME",
    callback=_post_hoc,
    help=f"{', '.join(post_hoc_protections())}, or a plugin's. Those with -adapter and -refit take "
    "adapters, the others whole checkpoints.",
)
@named_options("--defense-option", "An option of the defense, such as beta=2.")
@output_folder_option("the protected update and its record update.json")
@batch_size_option
@logit_scale_option
@seed_option
@device_options
def protect(
    base: Path,
    data: Path,
    update: Path,
    defense: str,
    options: dict[str, float | str],
    output: Path,
    batch_size: int,
    logit_scale: float,
    seed: int,
    device: str,
    threads: int,
) -> None:
    """Protect a fine-tuned update by a post-hoc defense (the paper's baselines) and score it.

    TRAP² itself is no post-hoc defense: trap2 train --lambda.

    \b
    Example:
      trap2 protect --base results/demo/ViT-demo --data results/demo/data/digits/32 \\
        --update results/demo/ViT-demo/lora/digits/unprotected \\
        --defense params-adapter --output mine/digits-params
    """
    from trap2.cli.inputs import Base, check_unprotected, refuse_to_replace
    from trap2.protection import protect
    from trap2.updates.key import UpdateKey
    from trap2.updates.stored import release_format

    refuse_to_replace(output / "update.json", "an update")
    base_model = Base(base)
    task, task_files = base_model.task(data, "val", "test")
    check_unprotected(update, task)
    protect.protect(
        model=base_model.weights,
        head=base_model.head(task),
        data=task_files,
        source=update,
        folder=output,
        key=UpdateKey(None, base_model.name, release_format(update), task, defense),
        backbone=base_model.backbone,
        logit_scale=logit_scale,
        batch_size=batch_size,
        seed=seed,
        device=chosen_device(device, threads),
        log=click.echo,
        options=options,
    )
