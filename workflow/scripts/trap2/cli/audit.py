"""``trap2 audit``: the check of an adapter before it is released."""

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
    seed_option,
)


@click.command(short_help="Check an adapter before its release: what breaks it, who gets it.")
@click.argument("adapter", type=FOLDER)
@base_option
@data_option(multiple=True)
@click.option(
    "--with",
    "partners",
    type=FOLDER,
    multiple=True,
    help="Another task's update that an attacker has; give it several times. --data is then given "
    "once for ADAPTER and once for each, in this order.",
)
@click.option(
    "--unprotected",
    type=FOLDER,
    help="ADAPTER before it was protected, if you have it: what an attacker gets is then compared "
    "with the merge of unprotected updates.",
)
@click.option(
    "--attacks",
    "wanted",
    default="quick",
    show_default=True,
    metavar="NAME,…",
    help="Attacks to run: quick (those that need no training images, but for slow ones), all, "
    "none, or names.",
)
@click.option(
    "--output",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for audit.md, audit.png and audit.json.",
)
@seed_option
@batch_size_option
@logit_scale_option
@device_options
def audit(
    adapter: Path,
    base: Path,
    data: tuple[Path, ...],
    partners: tuple[Path, ...],
    unprotected: Path | None,
    wanted: str,
    output: Path,
    seed: int,
    batch_size: int,
    logit_scale: float,
    device: str,
    threads: int,
) -> None:
    """Check ADAPTER, a PEFT adapter or a whole checkpoint, before it is released.

    Scores it at other scales, averaged, after what people do to weights without merging them
    (casts, int8 and int4, other ranks), and under the attacks that are known here; writes a page
    with a verdict a line and says what was not tried.

    \b
    Example:
      trap2 audit --base results/demo/ViT-demo --data results/demo/data/digits/32 \\
        --data results/demo/data/letters/32 \\
        --with results/demo/ViT-demo/lora/letters/unprotected \\
        --output mine/audit results/demo/ViT-demo/lora/digits/trap2
    """
    from trap2.attacks.audit import Audited
    from trap2.attacks.audit import audit as check
    from trap2.cli.inputs import Base, digests, load, refuse_to_replace
    from trap2.merging.settings import Search
    from trap2.models.clip.classifier import open_classifier
    from trap2.models.clip.tower import load_tower
    from trap2.report.audit import page, plot
    from trap2.report.figures import style
    from trap2.runtime import files
    from trap2.updates.stored import release_format

    if len(data) != 1 + len(partners):
        raise click.UsageError(
            f"--data: {len(data)} given, {1 + len(partners)} needed; once for the adapter's task "
            "and once for each --with, in their order"
        )
    attacks = _chosen(wanted)
    refuse_to_replace(output / "audit.json", "an audit")
    base_model = Base(base)
    prepared = [base_model.task(folder, "train", "val", "test") for folder in data]
    _check_tasks([task for task, _ in prepared], [adapter, *partners])
    place = chosen_device(device, threads)
    model = load_tower(base_model.weights, base_model.backbone, place)
    tasks = {
        task: open_classifier(
            base_model.head(task),
            paths,
            task,
            ("train", "val", "test"),
            logit_scale=logit_scale,
            batch_size=batch_size,
            device=place,
        )
        for task, paths in prepared
    }
    own, *others = tasks
    record = check(
        Audited(
            model=model,
            tasks=tasks,
            update=load(adapter, base_model),
            partners={t: load(p, base_model) for t, p in zip(others, partners, strict=True)},
            unprotected=load(unprotected, base_model) if unprotected else None,
            release_format=release_format(adapter),
            attacks=attacks,
            search=Search(),
            seed=seed,
        ),
        click.echo,
    )
    record |= {
        "adapter": "/".join(adapter.resolve().parts[-2:]),
        "backbone": base_model.name,
        "images": len(tasks[own].labels("test")),
        "unprotected": unprotected is not None,
        "seed": seed,
        "updates": digests([adapter, *partners, *([unprotected] if unprotected else [])]),
    }
    files.write_json(output / "audit.json", record)
    style.save(plot(record), [output / "audit.png"])
    files.write_text(output / "audit.md", page(record, "audit.png"))
    click.echo(f"{output / 'audit.md'}: {len(record['lines'])} verdicts")


def _chosen(wanted: str) -> list[str]:
    """The attacks that ``--attacks`` names.

    Raises:
        CatalogueError: one is unknown.
    """
    from trap2.attacks.audit import quick_attacks
    from trap2.attacks.catalogue import ATTACKS

    if wanted == "quick":
        return quick_attacks()
    if wanted in ("all", "none"):
        return list(ATTACKS) if wanted == "all" else []
    return [ATTACKS[name.strip()].name for name in wanted.split(",")]


def _check_tasks(tasks: list[str], updates: list[Path]) -> None:
    """Refuse two updates of one task, and an update of another task than its data.

    Raises:
        FileError: there is one.
    """
    from trap2.cli.inputs import record_of
    from trap2.runtime import files

    if len(set(tasks)) < len(tasks):
        raise files.FileError(
            f"--data gives the tasks {', '.join(tasks)}; each update must be of a task of its own"
        )
    for task, folder in zip(tasks, updates, strict=True):
        # An update from elsewhere has no record.
        if (folder / "update.json").exists() and record_of(folder)["task"] != task:
            raise files.FileError(
                f"{folder} is an update of {record_of(folder)['task']}, and its --data is of {task}"
            )
