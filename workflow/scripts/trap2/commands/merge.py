"""``trap2 merge``: several updates into one model."""

from __future__ import annotations

from pathlib import Path

import click

from trap2.commands.options import (
    base_option,
    merge_options,
    output_folder_option,
    updates_option,
)


@click.command(short_help="Merge updates of one base model at a given coefficient.")
@base_option
@updates_option("An update's folder (adapter or whole checkpoint); give it several times.")
@merge_options
@click.option(
    "--coefficient",
    type=float,
    default=1.0,
    show_default=True,
    help="s in W0 + s·M; trap2 sweep finds the best.",
)
@output_folder_option("model.safetensors, the merged tower, and its record merge.json")
def merge(
    base: Path,
    updates: tuple[Path, ...],
    method: str,
    space: str,
    options: dict[str, float | str],
    coefficient: float,
    output: Path,
) -> None:
    """Merge updates of one base model and write the merged vision tower.

    \b
    Example:
      trap2 merge --base results/demo/ViT-demo \\
        --update results/demo/ViT-demo/lora/digits/trap2 \\
        --update results/demo/ViT-demo/lora/letters/unprotected \\
        --method TIES --space KnOTS --option keep=20 --coefficient 0.5 --output mine/merged
    """
    import torch

    from trap2 import files, released
    from trap2.commands.inputs import Base, digests, refuse_to_replace
    from trap2.lora import FullUpdate
    from trap2.merging import Merger, check_options
    from trap2.provenance import versions
    from trap2.sweep import AppliedUpdate

    refuse_to_replace(output / "merge.json", "a merge")
    complete = check_options(method, options)
    model = Base(base)
    sources = digests(updates)
    tower = released.load_tower(model.tower, model.backbone, torch.device("cpu"))
    merger = Merger([released.load_update(folder, model.tower) for folder in updates], space)
    with AppliedUpdate(tower, merger.merge(method, **complete)) as applied:
        applied.set(coefficient)
        FullUpdate(tower).save(output)
    record = {
        "backbone": model.name,
        "merge_method": method,
        "merge_space": space,
        "options": complete,
        "coefficient": coefficient,
        "updates": sources,
        "versions": versions(),
    }
    files.write_json(output / "merge.json", record)
    click.echo(f"{method}-{space} of {len(updates)} updates at s = {coefficient:g}: {output}")
