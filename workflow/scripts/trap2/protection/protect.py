"""One post-hoc protection job: from a fine-tuned update to a protected one and its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trap2.data.prepared import SplitName, notes
from trap2.models.clip.architectures import BackboneParams
from trap2.models.clip.classifier import open_classifier
from trap2.models.clip.tower import load_tower
from trap2.models.scoring import score_record
from trap2.protection.applied import Weights, accuracy_with, added
from trap2.protection.catalogue import PROTECTIONS
from trap2.protection.post_hoc import parameters, protect_adapter, protect_checkpoint
from trap2.protection.protection import Accuracy
from trap2.protection.transforms import attention_heads
from trap2.runtime import files
from trap2.runtime.versions import versions
from trap2.updates.adapters import CHECKPOINT_FILE, read_adapter, write_adapter
from trap2.updates.delta import LowRank
from trap2.updates.key import UpdateKey
from trap2.updates.lora import LoraUpdate
from trap2.updates.settings import AdapterSettings
from trap2.updates.stored import BASE_KEY, base_sha256, check_base
from trap2.updates.trainable import FullUpdate
from trap2.updates.weights import read_weights

Measure = Callable[[Weights], Accuracy]
"""From fine-tuned weights to their accuracy with some of them replaced."""


def protect(
    *,
    model: str,
    head: str,
    data: list[str],
    source: Path,
    folder: Path,
    key: UpdateKey,
    backbone: BackboneParams,
    logit_scale: float,
    batch_size: int,
    seed: int,
    device: torch.device,
    log: Callable[[str], None],
    options: Mapping[str, object] | None = None,
) -> None:
    """Protect an unprotected update; write its files and ``update.json`` into ``folder``.

    Args:
        model: the file of W0.
        head: the task's zero-shot head.
        data: the task's prepared files, validation and test.
        source: the folder of the unprotected update.
        folder: where the protected update goes.
        key: which update it becomes.
        backbone: the suite's settings of the backbone.
        logit_scale: factor on the cosines in the recorded loss.
        batch_size: images a forward pass.
        seed: the configuration's seed.
        device: where to score; the protection itself is computed on the CPU in float64.
        log: receives progress.
        options: the protection's; the others are at their defaults.

    Raises:
        CatalogueError: an unknown option, or a value out of its range.
        NotApplicable: the backbone has no attention, or the defense takes other updates.
        UpdateError: the update does not fit the base, or its record says that it is another's.
    """
    check_base(source, model)
    splits: tuple[SplitName, ...] = ("val", "test")
    classifier = open_classifier(
        head,
        data,
        key.task,
        splits,
        logit_scale=logit_scale,
        batch_size=batch_size,
        device=device,
    )
    found: dict[str, Any] = {}
    base = load_tower(model, backbone, torch.device("cpu"))
    write = _write_adapter if key.release_format == "lora" else _write_checkpoint
    common = {"seed": seed, "task": key.task, "options": options, "found": found}
    measure = None
    if PROTECTIONS[key.protection].needs == "labels":
        tower = load_tower(model, backbone, device)
        measure = partial(accuracy_with, tower, task=classifier)
    module = write(base, source, folder, key.protection, measure, common).to(device)
    scores = {}
    for split in splits:
        scores[split] = classifier.score(module, split)
        log(f"{split} accuracy {scores[split].accuracy:.2f} %")
    protection = PROTECTIONS[key.protection]
    record = {
        **key.facts(),
        BASE_KEY: base_sha256(model),
        "title": protection.title,
        "paper": protection.paper,
        "seed": seed,
        "parameters": parameters(protection.name, options),
        **({"found": found} if found else {}),
        "unprotected": files.read_json(source / "update.json"),
        "logit_scale": logit_scale,
        "device": device.type,
        "versions": versions(),
        "notes": notes(data),
    }
    record |= {split: score_record(result) for split, result in scores.items()}
    files.write_json(folder / "update.json", record)


def _write_adapter(
    base: nn.Module,
    source: Path,
    folder: Path,
    protection: str,
    measure: Measure | None,
    common: dict[str, Any],
) -> nn.Module:
    adapter = {layer: LowRank(b, a) for layer, (b, a) in read_adapter(source).items()}
    origin = base.state_dict()
    accuracy = None if measure is None else measure(added(origin, adapter))
    protected = protect_adapter(
        protection, adapter, origin, attention_heads(base), accuracy=accuracy, **common
    )
    write_adapter(folder, {layer: (delta.B, delta.A) for layer, delta in protected.items()})
    rank = next(iter(protected.values())).rank
    settings = AdapterSettings(rank=rank, alpha=rank, dropout=0.0)
    targets = [layer.removesuffix(".weight") for layer in protected]
    update = LoraUpdate(base, targets, settings, seed=0)
    update.set_factors(protected)
    return update.module.eval()


def _write_checkpoint(
    base: nn.Module,
    source: Path,
    folder: Path,
    protection: str,
    measure: Measure | None,
    common: dict[str, Any],
) -> nn.Module:
    weights = read_weights(source / CHECKPOINT_FILE)
    accuracy = None if measure is None else measure(weights)
    protected = protect_checkpoint(
        protection, weights, base.state_dict(), attention_heads(base), accuracy=accuracy, **common
    )
    update = FullUpdate(base)
    update.load_state(protected)
    update.save(folder)
    return base.eval()
