"""``trap2 merge``: several updates into one model."""

from __future__ import annotations

from pathlib import Path

import click

from trap2.cli.options import (
    COEFFICIENT,
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
    type=COEFFICIENT,
    default=1.0,
    show_default=True,
    help="s in W0 + s·M; trap2 search finds the best.",
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

    from trap2.cli.inputs import Base, digests, load, refuse_to_replace
    from trap2.merging.catalogue import check_options
    from trap2.merging.merger import Merger
    from trap2.models.clip.tower import load_tower
    from trap2.runtime import files
    from trap2.runtime.versions import versions
    from trap2.updates.applied import AppliedUpdate, check_finite
    from trap2.updates.stored import BASE_KEY, base_sha256
    from trap2.updates.trainable import FullUpdate

    refuse_to_replace(output / "merge.json", "a merge")
    complete = check_options(method, options)
    base_model = Base(base)
    sources = digests(updates)
    model = load_tower(base_model.weights, base_model.backbone, torch.device("cpu"))
    merger = Merger([load(folder, base_model) for folder in updates], space)
    with AppliedUpdate(model, merger.merge(method, **complete)) as applied:
        applied.set(coefficient)
        check_finite(model, f"{method}-{space} at s = {coefficient:g}")
        FullUpdate(model).save(output)
    record = {
        "backbone": base_model.name,
        "merge_method": method,
        "merge_space": space,
        "options": complete,
        "coefficient": coefficient,
        "updates": sources,
        BASE_KEY: base_sha256(base_model.weights),
        "versions": versions(),
    }
    files.write_json(output / "merge.json", record)
    click.echo(f"{method}-{space} of {len(updates)} updates at s = {coefficient:g}: {output}")
