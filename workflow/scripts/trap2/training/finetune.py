"""One fine-tuning job: from the workflow's files to a released update and its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn

from trap2.data.prepared import SPLITS, notes
from trap2.models.clip.architectures import BackboneParams
from trap2.models.clip.classifier import open_classifier
from trap2.models.clip.tower import load_tower
from trap2.models.layers import lora_targets
from trap2.models.recompute import recompute_blocks
from trap2.models.scoring import score_record
from trap2.models.task import Task
from trap2.protection.objective import Objective
from trap2.runtime import device as devices
from trap2.runtime import files
from trap2.runtime.errors import Trap2Error
from trap2.runtime.seeding import seed_of
from trap2.runtime.versions import versions
from trap2.training.settings import Optimisation, TrainingParams
from trap2.training.trainer import Trainer
from trap2.updates.adapters import ADAPTER_FILES, CHECKPOINT_FILE
from trap2.updates.delta import Update, UpdateError, to_device
from trap2.updates.key import UpdateKey
from trap2.updates.lora import attach_adapter
from trap2.updates.records import Number
from trap2.updates.settings import AdapterSettings
from trap2.updates.stored import BASE_KEY, base_sha256, check_base
from trap2.updates.trainable import FullUpdate, TrainableUpdate

CHECKPOINT_SECONDS = 300.0

Finish = Callable[[TrainableUpdate, nn.Module, Task], dict[str, Any]]
"""From what was trained, changed in place, a tower of W0 of its own and the task to what stands in
the record; :func:`trap2.protection.applied.transform_after` makes one."""


class WorkflowArguments(TypedDict):
    """The arguments of :func:`finetune` that are the same in every training rule."""

    model: str
    head: str
    data: list[str]
    folder: Path
    backbone: BackboneParams
    training: TrainingParams
    logit_scale: float
    seed: int
    device: torch.device


def workflow_arguments(snakemake: Any) -> WorkflowArguments:
    """What every training rule gives :func:`finetune`, from a script's ``snakemake`` object."""
    given = snakemake.params
    return {
        "model": snakemake.input.model,
        "head": snakemake.input.head,
        "data": list(snakemake.input.data),
        "folder": Path(snakemake.output[0]).parent,
        "backbone": given.backbone,
        "training": given.training,
        "logit_scale": given.logit_scale,
        "seed": given.seed,
        "device": devices.device(given.device, snakemake.threads),
    }


def finetune(
    *,
    model: str,
    head: str,
    data: list[str],
    folder: Path,
    key: UpdateKey,
    backbone: BackboneParams,
    training: TrainingParams,
    objective: Objective | None,
    logit_scale: float,
    seed: int,
    device: torch.device,
    log: Callable[[str], None],
    facts: Mapping[str, str] | None = None,
    partners: Mapping[str, Update] | None = None,
    finish: Finish | None = None,
    start: Path | None = None,
) -> None:
    """Train an update and write its files and ``update.json`` into ``folder``.

    Args:
        model: the file of W0.
        head: the task's zero-shot head.
        data: the task's prepared files, all three splits.
        folder: where the update goes.
        key: which update it is; the same for all values of λ.
        backbone: the suite's settings of the backbone.
        training: the suite's settings of the release format: ``optimisation`` and ``adapter``.
        objective: of a trained protection; ``None`` for an unprotected update.
        logit_scale: factor on the cosines in the loss.
        seed: the configuration's seed.
        device: where to compute.
        log: receives progress.
        facts: what else the record is to say, such as an ablation's setting and value.
        partners: other tasks' unprotected updates by task, for an objective trained against them;
            they are held in memory, on the device.
        finish: transforms what was trained before it is scored, for a protection that does.
        start: the folder of the unprotected update that training starts from; a fresh one if None.

    Raises:
        UpdateError: the update to start from is of another base or form.
        Trap2Error: a protection is to be trained with DoRA on a backbone with ``recompute``, or
            transformed afterwards.
    """
    _check_dora(backbone, key.release_format, training, objective, finish)
    settings = Optimisation(**training["optimisation"])
    task = open_classifier(
        head,
        data,
        key.task,
        SPLITS,
        logit_scale=logit_scale,
        batch_size=settings.evaluation_batch_size,
        device=device,
    )
    seed_of_update = seed_of(seed, key.run)
    update = _attach(model, backbone, key.release_format, training, seed_of_update, device)
    started = None if start is None else _start(update, start, model)
    trainer = Trainer(
        update,
        task,
        settings,
        objective,
        seed=seed,
        run=key.run,
        log=log,
        partners={name: to_device(other, device) for name, other in (partners or {}).items()},
        start=started,
    )
    checkpoint = folder / ".resume.safetensors"
    progress = trainer.fit(checkpoint, CHECKPOINT_SECONDS)
    found: dict[str, Any] = {} if started is None else {"start_sha256": started}
    if finish is not None:
        found["transformed"] = finish(update, load_tower(model, backbone, device), task)
    update.save(folder)
    tested = trainer.score("test")
    record = {
        **key.facts(),
        **(facts or {}),
        BASE_KEY: base_sha256(model),
        "seed": seed,
        "optimisation": asdict(settings),
        "adapter": _adapter_record(key.release_format, training),
        "objective": None if trainer.objective is None else trainer.objective.record(),
        **found,
        "logit_scale": logit_scale,
        "best_step": progress.best_step,
        "steps": progress.step,
        "history": progress.history,
        "val": score_record(trainer.score("val")),
        "test": score_record(tested),
        "seconds": round(progress.seconds, 1),
        "device": device.type,
        "notes": notes(data),
        "versions": versions(),
    }
    files.write_json(folder / "update.json", record)
    # Not before: a job that is killed while it scores must not train anew.
    checkpoint.unlink(missing_ok=True)
    log(f"test accuracy {tested.accuracy:.2f} %")


def _check_dora(
    backbone: BackboneParams,
    release_format: str,
    training: TrainingParams,
    objective: Objective | None,
    finish: Finish | None,
) -> None:
    """DoRA is scaled by hooks on the layers' outputs, which are gone when a block runs again.

    Nor is its ΔW of low rank, which a transform of adapters takes.
    """
    dora = release_format == "lora" and AdapterSettings(**training.get("adapter", {})).dora
    if dora and finish is not None:
        raise Trap2Error(
            "a DoRA adapter cannot be transformed after its training: its ΔW is no product B·A. "
            "Set the adapter's kind to LoRA or rsLoRA, or choose a protection without transform"
        )
    if dora and backbone.get("recompute", False) and objective is not None:
        raise Trap2Error(
            "a protected DoRA adapter cannot be trained on a backbone with recompute = true: the "
            "blocks would be computed again without the scale of the update. Set recompute to "
            "false, or the adapter's kind to LoRA or rsLoRA"
        )


def _attach(
    path: str,
    backbone: BackboneParams,
    release_format: str,
    training: TrainingParams,
    seed: int,
    device: torch.device,
) -> TrainableUpdate:
    model = load_tower(path, backbone, device)
    if backbone.get("recompute", False):
        recompute_blocks(model)
    if release_format == "full":
        return FullUpdate(model)
    settings = AdapterSettings(**training.get("adapter", {}))
    update = attach_adapter(model, lora_targets(model), settings, seed)
    update.module.to(device)
    return update


def _start(update: TrainableUpdate, folder: Path, model: str) -> str:
    """Set an update to the one in a folder; returns the SHA-256 of that one's tensors."""
    check_base(folder, model)
    path = folder / (CHECKPOINT_FILE if isinstance(update, FullUpdate) else ADAPTER_FILES[0])
    state, given = update.state(), files.read_tensors(path)
    shapes = ({name: tuple(t.shape) for name, t in each.items()} for each in (state, given))
    if next(shapes) != next(shapes):
        raise UpdateError(
            f"{path}: training cannot start from this update: its tensors have other names or "
            "shapes than those to be trained. Give one of the same base, rank and kind of adapter"
        )
    update.load_state(given)
    return files.tensors_sha256(path)


def _adapter_record(release_format: str, training: TrainingParams) -> dict[str, Number] | None:
    return (
        asdict(AdapterSettings(**training.get("adapter", {}))) if release_format == "lora" else None
    )
