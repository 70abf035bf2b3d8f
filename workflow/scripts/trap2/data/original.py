"""A dataset's original parts, read in their own form and checked against the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trap2.data.catalogue import Dataset
from trap2.data.forms import few
from trap2.data.images import Part, RawDataset
from trap2.data.readers import READERS
from trap2.runtime import files


def read(dataset: Dataset, reader: str, content: str | Path) -> RawDataset:
    """Read a dataset's original parts and check them against its row.

    Args:
        dataset: its row of the catalogue.
        reader: which of :data:`trap2.data.readers.READERS` knows the form of the files.
        content: the ``content`` folder of the raw folder.

    Raises:
        FileError: a file is missing, damaged or not what the row says.
        UnknownEntry: no such reader.
    """
    content = Path(content)
    raw = READERS[reader].read(content)
    where = f"{dataset.task} ({content})"
    if len(raw.classes) != dataset.classes:
        raise files.FileError(
            f"{where}: {len(raw.classes)} classes, the catalogue expects {dataset.classes}: "
            f"{few(raw.classes)}"
        )
    for name, part in raw.parts.items():
        _check_labels(f"{where}, part '{name}'", part, raw.classes)
    for name, start in (dataset.label_start or {}).items():
        found = raw.parts[name].labels[: len(start)].tolist()
        if found != list(start):
            raise files.FileError(
                f"{where}, part '{name}': the images are not in their original order, which the "
                f"split rule needs: the first labels should be {list(start)}, found {found}. "
                "Choose another source of this dataset."
            )
    _check_disjoint(where, raw)
    return raw


def _check_labels(where: str, part: Part, classes: Any) -> None:
    if not len(part):
        raise files.FileError(f"{where}: no images")
    outside = np.flatnonzero((part.labels < 0) | (part.labels >= len(classes)))
    if len(outside):
        first = outside[0]
        raise files.FileError(
            f"{where}: {len(outside)} labels outside 0 … {len(classes) - 1}, the first is "
            f"{part.labels[first]} of '{part.names[first]}'"
        )
    absent = sorted(set(range(len(classes))) - set(part.labels.tolist()))
    if absent:
        raise files.FileError(
            f"{where}: no image of {len(absent)} classes: {few(classes[i] for i in absent)}"
        )


def _check_disjoint(where: str, raw: RawDataset) -> None:
    owner: dict[str, str] = {}
    for name, part in raw.parts.items():
        for image in part.names:
            if owner.setdefault(image, name) != name:
                raise files.FileError(
                    f"{where}: '{image}' is in both parts '{owner[image]}' and '{name}'"
                )
