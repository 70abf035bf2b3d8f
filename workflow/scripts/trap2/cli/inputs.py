"""What the commands' options point to: base models, prepared tasks, updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from trap2.data.prepared import open_split, split_files
from trap2.models.clip.architectures import (
    ArchitectureError,
    BackboneParams,
    configuration,
    image_size,
)
from trap2.runtime import files
from trap2.updates.adapters import ADAPTER_FILES, CHECKPOINT_FILE
from trap2.updates.delta import Update
from trap2.updates.stored import load_update, recorded_base, release_format


@dataclass(frozen=True)
class Base:
    """The folder of a base model, in the form in which the workflow and the bundle keep it."""

    folder: Path

    @property
    def name(self) -> str:
        """The backbone's name: the folder's."""
        return self.folder.resolve().name

    @property
    def weights(self) -> str:
        """The file of W0."""
        return str(self.folder / "tower.safetensors")

    @property
    def backbone(self) -> BackboneParams:
        """The backbone's settings, as jobs of the workflow get them.

        Raises:
            FileError: ``base.json`` is missing, or names no architecture that is supported.
        """
        path = self.folder / "base.json"
        if not path.exists():
            raise files.FileError(
                f"{path}: no such file. Give a base model's folder, such as results/demo/ViT-demo"
            )
        record = files.read_json(path)
        if not isinstance(record, Mapping) or "architecture" not in record:
            raise files.FileError(
                f"{path}: lacks 'architecture', the name of an open_clip model or its "
                "configuration {embed_dim, vision_cfg, text_cfg}"
            )
        try:
            configuration(record["architecture"])
        except ArchitectureError as error:
            raise files.FileError(f"{path}: {error}") from None
        return {"architecture": record["architecture"]}

    def head(self, task: str) -> str:
        """The file of a task's zero-shot head.

        Raises:
            FileError: there is none.
        """
        path = self.folder / "heads" / f"{task}.safetensors"
        if not path.exists():
            known = sorted(p.stem for p in path.parent.glob("*.safetensors"))
            raise files.FileError(
                f"{path}: no such file. The task is named after the parent of the folder that "
                f"--data gives; heads here are of {', '.join(known) or 'no task'}."
            )
        return str(path)

    def task(self, folder: Path, *splits: str) -> tuple[str, list[str]]:
        """A prepared task: its name and its files.

        Raises:
            FileError: a split is missing or damaged, or its images are of another size than the
                base takes.
        """
        folder = folder.resolve()
        for split in splits:
            if not (folder / split_files(split)[0]).exists():
                raise files.FileError(
                    f"{folder}: no prepared task; it lacks {split_files(split)[0]}. Give a "
                    "folder such as results/demo/data/digits/32"
                )
        edge, expected = open_split(folder, splits[0]).images.shape[-1], self._image_size()
        if expected != edge:
            raise files.FileError(
                f"{folder}: the images are {edge} pixels wide; {self.name} takes {expected}. Give "
                f"the task's folder prepared at {expected}."
            )
        return folder.parent.name, sorted(str(path) for path in folder.iterdir() if path.is_file())

    def _image_size(self) -> int:
        return image_size(configuration(self.backbone["architecture"]))


def load(folder: Path, base: Base) -> Update:
    """An update of a base; says so where the update does not tell which base it was made on.

    Raises:
        FileError: the folder holds no update that can be read.
        UpdateError: it is one of another base.
    """
    update = load_update(folder, base.weights)
    if recorded_base(folder) is None:
        click.echo(
            f"note: {folder} does not say which base it was made on; that it is {base.folder} is "
            "not checked",
            err=True,
        )
    return update


def record_of(folder: Path) -> dict[str, object]:
    """An update's record ``update.json``.

    Raises:
        FileError: the update has none, or it is not such a record.
    """
    path = folder / "update.json"
    if not path.exists():
        raise files.FileError(
            f"{path}: no such file. It is the record that trap2 train and the workflow write "
            "beside an update, with its task and accuracies."
        )
    record = files.read_json(path)
    if not isinstance(record, dict) or not {"task", "val"} <= record.keys():
        raise files.FileError(f"{path}: not an update's record; it lacks 'task' or 'val'.")
    if not isinstance(record["task"], str) or not isinstance(record["val"], dict):
        raise files.FileError(
            f"{path}: not an update's record; 'task' must be a name and 'val' a mapping."
        )
    return record


def digests(folders: Iterable[Path]) -> list[dict[str, str]]:
    """Each update's folder with the SHA-256 of its tensors, for a record."""
    weights = {"lora": ADAPTER_FILES[0], "full": CHECKPOINT_FILE}
    return [
        {"folder": str(folder), "sha256": files.sha256(folder / weights[release_format(folder)])}
        for folder in folders
    ]


def refuse_to_replace(path: Path, what: str) -> None:
    """Keep what an earlier command wrote.

    Raises:
        FileError: ``path`` exists.
    """
    if path.exists():
        raise files.FileError(
            f"{path.parent} holds {what} already. Give another folder, or delete this one."
        )


def check_unprotected(update: Path, task: str) -> None:
    """Check that an update is a task's unprotected one.

    Raises:
        FileError: it is of another task, or protected.
    """
    record = record_of(update)
    if record["task"] != task:
        raise files.FileError(f"{update} is an update of {record['task']}, and --data is {task}")
    protection = record.get("protection", "unprotected")
    if protection != "unprotected":
        raise files.FileError(
            f"{update} is protected already ({protection}); give the unprotected update"
        )
