"""Reading released updates and what surrounds them back from the workflow's files."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from trap2.runtime import files
from trap2.updates.adapters import ADAPTER_FILES, CHECKPOINT_FILE, is_dora, read_adapter, read_dora
from trap2.updates.delta import CheckpointUpdate, LowRank, Update, UpdateError
from trap2.updates.records import UpdateRecord
from trap2.updates.weights import read_weights

LOG = logging.getLogger("trap2")

# An update's record, or a merge's.
RECORD_FILES = ("update.json", "merge.json")

# The key of an update's record that holds the SHA-256 of W0 (see :func:`base_sha256`).
BASE_KEY = "base_sha256"


def release_format(folder: str | Path) -> str:
    """The release format of the update in a folder: ``full`` or ``lora``.

    Raises:
        FileError: the folder holds no update, two, or a part of one.
    """
    folder = Path(folder)
    whole, adapter = ((folder / name).exists() for name in (CHECKPOINT_FILE, ADAPTER_FILES[0]))
    if whole and adapter:
        raise files.FileError(
            f"{folder}: holds both {CHECKPOINT_FILE} and {ADAPTER_FILES[0]}, and only one of them "
            "can be the update. Move the other one elsewhere"
        )
    if whole or adapter:
        return "full" if whole else "lora"
    # One of a checkpoint in parts is model-00001-of-00002.safetensors.
    part = next(iter(sorted(folder.glob("model-*-of-*.safetensors"))), None)
    if part is not None or (folder / f"{CHECKPOINT_FILE}.index.json").exists():
        raise files.FileError(
            f"{folder}: a checkpoint in parts, such as {part.name if part else 'its index'}; join "
            f"them into one {CHECKPOINT_FILE}"
        )
    raise files.FileError(
        f"{folder}: no update; expected {ADAPTER_FILES[0]} with {ADAPTER_FILES[1]} "
        f"(an adapter) or {CHECKPOINT_FILE} (a whole checkpoint)."
    )


def load_update(folder: str | Path, model: str | Path) -> Update:
    """One released update ΔW, an adapter or a whole checkpoint.

    Args:
        folder: where the update was written.
        model: the file of W0; only whole checkpoints, DoRA adapters and updates whose record
            names their base need it.

    Raises:
        FileError: the folder holds no update, or one that cannot be read.
        UpdateError: the update is one of another base.
    """
    kind = release_format(folder)
    if not check_base(folder, model):
        LOG.info("%s does not say which base it was made on; that is not checked", folder)
    if kind == "full":
        return CheckpointUpdate(model, Path(folder) / CHECKPOINT_FILE)
    if is_dora(folder):
        return read_dora(folder, read_weights(model))
    factors = read_adapter(folder)
    return {layer: LowRank(b, a) for layer, (b, a) in factors.items()}


def updates_by_task(
    tasks: Iterable[str], paths: Iterable[str], model: str | Path
) -> dict[str, Update]:
    """The updates whose files are among a job's inputs, one a task and in the tasks' order.

    Raises:
        ValueError: there are more tasks than updates, or fewer.
    """
    return dict(zip(tasks, load_updates(paths, model), strict=True))


def records_by_task(paths: Iterable[str]) -> dict[str, UpdateRecord]:
    """The records (``update.json``) of updates, one a task."""
    return {record["task"]: record for record in map(files.read_json, paths)}


def load_updates(paths: Iterable[str], model: str | Path) -> list[Update]:
    """The updates whose files are among a job's inputs, in their order.

    Args:
        paths: files of updates; the folders that hold them are read, each once.
        model: the base's tower W0, for whole checkpoints.
    """
    folders = dict.fromkeys(Path(path).parent for path in paths)
    return [load_update(folder, model) for folder in folders]


def base_sha256(model: str | Path) -> str:
    """The SHA-256 of W0 as an update's record holds it: names, types, shapes and values."""
    return files.tensors_sha256(model)


def recorded_base(folder: str | Path) -> str | None:
    """The SHA-256 of the W0 that an update was made on, from its record; ``None``: not known.

    Raises:
        FileError: there is a record, and it is none.
    """
    path = next((p for name in RECORD_FILES if (p := Path(folder) / name).exists()), None)
    if path is None:
        return None
    record = files.read_json(path)
    digest = record.get(BASE_KEY) if isinstance(record, dict) else 0
    if digest is not None and not isinstance(digest, str):
        raise files.FileError(f"{path}: not an update's record; {BASE_KEY!r} is no text")
    return digest


def check_base(folder: str | Path, model: str | Path) -> bool:
    """Whether an update is known to be one of this base.

    Args:
        folder: where the update was written, with or without a record.
        model: the file of W0.

    Returns:
        ``False`` where the update does not say what its base was.

    Raises:
        UpdateError: it is an update of another base.
    """
    known = recorded_base(folder)
    if known is None:
        return False
    found = base_sha256(model)
    if known != found:
        raise UpdateError(
            f"{folder}: the update was made on another base: its record has {BASE_KEY} "
            f"{known[:12]}…, {model} is {found[:12]}…. Give the base that it was trained from"
        )
    return True
