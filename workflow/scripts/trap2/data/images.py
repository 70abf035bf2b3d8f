"""A dataset's original parts: labels in their original order, and images opened one at a time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from trap2.runtime import files


@dataclass(frozen=True)
class Part:
    """One original part, in its original order.

    Attributes:
        names: what each image is called in messages and in checks for overlap.
        labels: (n,) int64.
        load: index → the image as stored, of whatever mode; raises FileError.
    """

    names: Sequence[str]
    labels: np.ndarray
    load: Callable[[int], Image.Image]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class RawDataset:
    """All parts of a dataset, and its own names of the classes in label order."""

    classes: Sequence[str]
    parts: dict[str, Part]


def open_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """Decode one image completely.

    Args:
        source: a path, or the encoded bytes.
        name: what messages call it; the path by default.

    Raises:
        FileError: the image is missing, empty, truncated, no image, or absurdly large.
    """
    name = str(source) if name is None else name
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise files.FileError(f"{name}: cannot be read ({error.strerror})") from None
    if not content:
        raise files.FileError(f"{name}: the image is empty (0 bytes)")
    return _decode(io.BytesIO(content), name)


def _decode(content: BinaryIO, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(content) as image:
                image.load()
                return image
    except UnidentifiedImageError:
        raise files.FileError(f"{name}: not an image of any known format") from None
    except Image.DecompressionBombError as error:
        raise files.FileError(f"{name}: {error}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise files.FileError(f"{name}: damaged or truncated image ({error})") from None


def file_part(folder: Path, names: Sequence[str], labels: Sequence[int] | np.ndarray) -> Part:
    """A part whose images are files; ``names`` are paths relative to ``folder``.

    Raises:
        FileError: a name that leaves the folder, is listed twice, or has no file; more or fewer
            labels than names.
    """
    if len(names) != len(labels):
        raise files.FileError(f"{folder}: {len(names)} images are listed with {len(labels)} labels")
    seen: set[str] = set()
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise files.FileError(f"{folder}: the list names '{name}', outside the folder")
        if name in seen:
            raise files.FileError(f"{folder}: the list names '{name}' twice")
        seen.add(name)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise files.FileError(
            f"{folder}: {len(missing)} of {len(names)} listed images are missing, the first is "
            f"'{missing[0]}'"
        )
    return Part(
        names, np.asarray(labels, dtype=np.int64), lambda index: open_image(folder / names[index])
    )


def array_part(where: str, images: np.ndarray, labels: np.ndarray) -> Part:
    """A part held as an array: ``images`` (n, H, W) or (n, H, W, 3) uint8, ``labels`` (n,)."""
    if len(images) != len(labels):
        raise files.FileError(f"{where}: {len(images)} images and {len(labels)} labels")
    names = [f"{where}#{index}" for index in range(len(labels))]
    return Part(names, labels.astype(np.int64), lambda index: Image.fromarray(images[index]))
