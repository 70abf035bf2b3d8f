"""Reading released updates and what surrounds them back from the workflow's files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from trap2 import files, lora
from trap2.clip.backbones import build_clip, vision_tower
from trap2.data import arrays
from trap2.evaluation import Score
from trap2.updates import CheckpointUpdate, LowRank, Update


def tower_tensors(clip: open_clip.CLIP) -> dict[str, torch.Tensor]:
    """W0: the vision tower's tensors under the names that updates use."""
    return dict(vision_tower(clip).state_dict())


def load_tower(path: str | Path, backbone: Mapping[str, Any], device: torch.device) -> nn.Module:
    """The frozen vision tower W0 of a backbone, on ``device``, in evaluation mode.

    Raises:
        FileError: the file is damaged or holds another architecture's tower.
    """
    tower = vision_tower(build_clip(backbone["architecture"]))
    try:
        tower.load_state_dict(files.read_tensors(path))
    except RuntimeError as error:
        raise files.FileError(
            f"{path}: not the tower of this architecture ({str(error).splitlines()[-1].strip()}). "
            "Delete it and run snakemake again."
        ) from None
    return tower.to(device)


def load_update(folder: str | Path, tower: str | Path) -> Update:
    """One released update ΔW, an adapter or a whole checkpoint.

    Args:
        folder: where the update was written.
        tower: the file of W0; only whole checkpoints and DoRA adapters need it.
    """
    checkpoint = Path(folder) / lora.CHECKPOINT_FILE
    if checkpoint.exists():
        return CheckpointUpdate(tower, checkpoint)
    if lora.is_dora(folder):
        return lora.read_dora(folder, files.read_tensors(tower))
    factors = lora.read_adapter(folder)
    return {layer: LowRank(b, a) for layer, (b, a) in factors.items()}


def load_updates(paths: Iterable[str], tower: str | Path) -> list[Update]:
    """The updates whose files are among a job's inputs, in their order."""
    folders = dict.fromkeys(Path(path).parent for path in paths)
    return [load_update(folder, tower) for folder in folders]


def open_task(data: list[str], task: str, split: str) -> arrays.Split:
    """One split of a task, found among a job's input files."""
    wanted = f"{split}.images.npy"
    for path in map(Path, data):
        if path.name == wanted and path.parent.parent.name == task:
            return arrays.open_split(path.parent, split)
    raise files.FileError(f"no prepared '{split}' split of '{task}' among the inputs")


def notes(paths: Iterable[str]) -> list[str]:
    """What the manifests among a job's input files say that every result must repeat."""
    manifests = (files.read_json(path) for path in paths if Path(path).name == "manifest.json")
    return sorted({note for manifest in manifests for note in manifest.get("notes", [])})


def score_record(score: Score) -> dict[str, Any]:
    """A score as it stands in JSON records."""
    return {
        "correct": score.correct,
        "count": score.count,
        "accuracy": score.accuracy,
        "loss": score.loss,
    }
