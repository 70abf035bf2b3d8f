"""Prepared data: memory-mapped uint8 images with their labels, and a manifest beside them.

A prepared task is one folder::

    train.images.npy  (n, 3, H, W) uint8     train.labels.npy  (n,) int64
    val.images.npy    test.images.npy  …     manifest.json

Decoding, resizing and cropping happen once, when the folder is written; a training or an
evaluation job maps the file and only normalises.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

import numpy as np

from trap2.data.records import Facts, SplitDescription, TaskManifest
from trap2.runtime import files
from trap2.runtime.errors import Trap2Error

SplitName = Literal["train", "val", "test"]


SPLITS: tuple[SplitName, ...] = get_args(SplitName)


class UnknownSplit(Trap2Error):
    """A split's name is none of :data:`SPLITS`, or a task lacks this one."""


def check_split(name: str) -> SplitName:
    """The name of a split, if it is one: nothing else may stand for one of them.

    Raises:
        UnknownSplit: it is none.
    """
    for split in SPLITS:
        if name == split:
            return split
    raise UnknownSplit(f"split '{name}' is unknown; choose from {', '.join(SPLITS)}")


@dataclass(frozen=True)
class Split:
    """One split of a prepared task.

    Attributes:
        images: (n, 3, H, W) uint8, memory-mapped.
        labels: (n,) int64, in ``range(number of classes)``.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def split_files(split: str) -> list[str]:
    """The two file names of one split inside a prepared folder.

    Raises:
        UnknownSplit: there is no such split.
    """
    check_split(split)
    return [f"{split}.images.npy", f"{split}.labels.npy"]


def write_split(
    folder: str | Path, split: str, images: Iterable[np.ndarray], labels: np.ndarray
) -> None:
    """Write one split, image by image, so that memory holds one image at a time.

    Args:
        folder: the prepared task's folder.
        split: ``train``, ``val`` or ``test``.
        images: as many (3, H, W) uint8 arrays as there are labels, all of one size.
        labels: (n,) integers.

    Raises:
        ValueError: the images are of differing sizes, or not as many as the labels.
    """
    images_name, labels_name = split_files(split)
    labels = np.ascontiguousarray(labels, dtype=np.int64)

    def write(file: Any) -> None:
        shape: tuple[int, ...] | None = None
        count = 0
        for image in images:
            if shape is None:
                shape = image.shape
                _write_header(file, (len(labels), *shape))
            if image.shape != shape or image.dtype != np.uint8:
                raise Trap2Error(
                    f"{folder}: image {count} of split '{split}' is {image.dtype} {image.shape}, "
                    f"the first one uint8 {shape}"
                )
            file.write(np.ascontiguousarray(image).tobytes())
            count += 1
        if count != len(labels):
            raise Trap2Error(
                f"{folder}: split '{split}' has {count} images and {len(labels)} labels"
            )

    files.write_whole(Path(folder) / images_name, write)
    files.write_whole(
        Path(folder) / labels_name, lambda file: np.save(file, labels, allow_pickle=False)
    )


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    header = {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def open_split(folder: str | Path, split: str) -> Split:
    """Map one split of a prepared task.

    Raises:
        FileError: a file is missing, truncated, of another type, or the two do not fit.
    """
    images, labels = (_open_array(Path(folder) / name) for name in split_files(split))
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise files.FileError(
            f"{Path(folder) / split_files(split)[0]}: expected uint8 images (n, 3, H, W), found "
            f"{images.dtype} {images.shape}. Delete the folder and run snakemake again."
        )
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise files.FileError(
            f"{Path(folder) / split_files(split)[1]}: expected {len(images)} int64 labels, found "
            f"{labels.dtype} {labels.shape}. Delete the folder and run snakemake again."
        )
    return Split(images, np.array(labels))


def _open_array(path: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return found
    except FileNotFoundError:
        raise files.FileError(f"{path}: no such file") from None
    except (ValueError, EOFError, OSError) as error:
        raise files.FileError(
            f"{path}: not a readable array ({error}). Delete its folder and run snakemake again."
        ) from None


def describe(
    folder: str | Path, *, task: str, class_names: list[str], **facts: Unpack[Facts]
) -> TaskManifest:
    """The manifest of a prepared folder: counts, class histograms, checksums and ``facts``."""
    splits: dict[str, SplitDescription] = {}
    for split in SPLITS:
        opened = open_split(folder, split)
        histogram = np.bincount(opened.labels, minlength=len(class_names))
        if len(histogram) != len(class_names) or (len(opened) and opened.labels.min() < 0):
            raise Trap2Error(
                f"{folder}: split '{split}' has labels outside 0 … {len(class_names) - 1}"
            )
        splits[split] = {
            "count": len(opened),
            "class_histogram": histogram.tolist(),
            "sha256": {name: files.sha256(Path(folder) / name) for name in split_files(split)},
        }
    return {"task": task, "class_names": class_names, "splits": splits, **facts}


def open_task(data: list[str], task: str, split: str) -> Split:
    """One split of a task, found among a job's input files.

    Raises:
        UnknownSplit: there is no such split.
        FileError: it is not among the files, or damaged.
    """
    wanted = split_files(split)[0]
    for path in map(Path, data):
        if path.name == wanted and path.parent.parent.name == task:
            return open_split(path.parent, split)
    raise files.FileError(f"no prepared '{split}' split of '{task}' among the inputs")


def notes(paths: Iterable[str]) -> list[str]:
    """What the manifests among a job's input files say that every result must repeat."""
    manifests = (files.read_json(path) for path in paths if Path(path).name == "manifest.json")
    return sorted({note for manifest in manifests for note in manifest.get("notes", [])})
