"""One job of a base model: a task's zero-shot head and the score that it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from trap2.data.prepared import SplitName, notes
from trap2.models.clip.architectures import BackboneParams
from trap2.models.clip.build import build_clip
from trap2.models.clip.classifier import open_classifier
from trap2.models.clip.heads import tokenizer_for, write_head, zero_shot_head
from trap2.models.clip.tower import vision_tower
from trap2.models.scoring import score_record
from trap2.runtime import files
from trap2.updates.records import ScoreRecord


def build_head(
    *,
    base: str,
    data: list[str],
    head: str,
    record: str,
    facts: Mapping[str, str],
    backbone: BackboneParams,
    logit_scale: float,
    batch_size: int,
    device: torch.device,
    log: Callable[[str], None],
) -> None:
    """Build a task's head from the text tower, score the base model with it, write both.

    Args:
        base: the file of the whole CLIP.
        data: the task's prepared files, validation and test.
        head: where the head goes.
        record: where its record goes.
        facts: suite, backbone and task.
        backbone: the suite's settings of the backbone.
        logit_scale: factor on the cosines in the recorded loss.
        batch_size: images a forward pass.
        device: where to compute.
        log: receives progress.
    """
    manifest = files.read_json(Path(data[0]).parent / "manifest.json")
    clip = build_clip(backbone["architecture"], Path(base)).to(device)
    class_names, templates = manifest["class_names"], manifest["templates"]
    rows = zero_shot_head(clip, tokenizer_for(clip), class_names, templates)
    model = vision_tower(clip)
    write_head(head, rows, class_names)
    splits: tuple[SplitName, ...] = ("val", "test")
    classifier = open_classifier(
        head,
        data,
        facts["task"],
        splits,
        logit_scale=logit_scale,
        batch_size=batch_size,
        device=device,
    )
    scores: dict[str, ScoreRecord] = {}
    for split in splits:
        result = classifier.score(model, split)
        scores[split] = score_record(result)
        log(f"zero-shot {split} accuracy {result.accuracy:.2f} %")
    told = {"protection": "zero-shot", "templates": templates, "notes": notes(data)}
    files.write_json(record, {**facts, **told, **scores})
