"""Reading released updates and what surrounds them back from the workflow's files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trap2.runtime import files
from trap2.updates.adapters import CHECKPOINT_FILE, is_dora, read_adapter, read_dora
from trap2.updates.delta import CheckpointUpdate, LowRank, Update


def load_update(folder: str | Path, model: str | Path) -> Update:
    """One released update ΔW, an adapter or a whole checkpoint.

    Args:
        folder: where the update was written.
        model: the file of W0; only whole checkpoints and DoRA adapters need it.
    """
    checkpoint = Path(folder) / CHECKPOINT_FILE
    if checkpoint.exists():
        return CheckpointUpdate(model, checkpoint)
    if is_dora(folder):
        return read_dora(folder, files.read_tensors(model))
    factors = read_adapter(folder)
    return {layer: LowRank(b, a) for layer, (b, a) in factors.items()}


def load_updates(paths: Iterable[str], model: str | Path) -> list[Update]:
    """The updates whose files are among a job's inputs, in their order."""
    folders = dict.fromkeys(Path(path).parent for path in paths)
    return [load_update(folder, model) for folder in folders]
