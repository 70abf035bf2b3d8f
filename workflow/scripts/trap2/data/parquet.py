"""Image datasets kept as parquet, the form of dataset repositories: one row an image.

The image column holds the encoded file in ``bytes``; the class names are in the schema's
``huggingface`` metadata.
"""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trap2.data.images import Part, RawDataset, open_image
from trap2.runtime import files

# The smallest images take hundreds of bytes; a run of equal labels takes none.
BYTES_A_ROW, ROWS_FLOOR = 32, 1000


def read_cars(content: Path) -> RawDataset:
    """Stanford Cars with parts ``train`` and ``test``, each in one or more shards."""
    return read_image_parquet(content, ("train", "test"))


def read_image_parquet(content: Path, parts: tuple[str, ...]) -> RawDataset:
    """Read shards ``{part}-*.parquet``, in the order of their names.

    Labels are read at once, images when the first one is asked for; a part's encoded images then
    stay in memory (about 1 GB for a part of Cars).

    Raises:
        FileError: no shard, a shard that is damaged or of another schema, or shards that name
            different classes.
    """
    classes: list[str] | None = None
    read: dict[str, Part] = {}
    for part in parts:
        shards = _shards(content, part)
        labels = []
        for shard in shards:
            names = _class_names(shard)
            if classes is not None and names != classes:
                raise files.FileError(f"{shard}: names other classes than the shards before it")
            classes = names
            labels.append(_labels(shard))
        flat = np.concatenate(labels)
        images = _Images(shards)
        read[part] = Part([f"{part} row {row}" for row in range(len(flat))], flat, images.load)
    assert classes is not None
    return RawDataset(classes, read)


def _shards(content: Path, part: str) -> list[Path]:
    """A part's shards in order; names like ``part-00000-of-00002`` say how many there are."""
    shards = sorted(content.glob(f"{part}-*.parquet"))
    if not shards:
        raise files.FileError(f"{content}: no file {part}-*.parquet")
    totals = {re.sub(r".*-of-(\d+)\D.*", r"\1", shard.name) for shard in shards}
    if all(total.isdigit() for total in totals) and totals != {f"{len(shards):05d}"}:
        raise files.FileError(
            f"{content}: {len(shards)} shards of part '{part}', their names say {sorted(totals)}: "
            f"{', '.join(shard.name for shard in shards)}"
        )
    return shards


class _Images:
    """The image column of some shards, read once, by whichever thread comes first."""

    def __init__(self, shards: list[Path]) -> None:
        self.shards = shards
        self.lock = threading.Lock()
        self.column: Any = None

    def load(self, index: int) -> Image.Image:
        with self.lock:
            if self.column is None:
                import pyarrow

                chunks = [_column(shard, "image").chunks for shard in self.shards]
                self.column = pyarrow.chunked_array([chunk for shard in chunks for chunk in shard])
        value = self.column[index].as_py()
        name = f"{self.shards[0].parent}: image {index} of {self.shards[0].name.split('-')[0]}"
        if not isinstance(value, dict) or not isinstance(value.get("bytes"), bytes):
            raise files.FileError(f"{name}: the row holds no encoded image")
        return open_image(value["bytes"], name)


def _column(shard: Path, name: str) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(shard, columns=[name]).column(name)
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise files.FileError(f"{shard}: no readable column '{name}' ({error})") from None


def _labels(shard: Path) -> np.ndarray:
    """The labels as they stand; a fraction or a gap is an error, never rounded away."""
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_metadata(shard).num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise files.FileError(f"{shard}: not a readable parquet file ({error})") from None
    if rows > shard.stat().st_size // BYTES_A_ROW + ROWS_FLOOR:
        raise files.FileError(f"{shard}: {rows} rows, more images than a file of its size holds")
    column = _column(shard, "label")
    if not pyarrow.types.is_integer(column.type) or column.null_count:
        raise files.FileError(
            f"{shard}: labels of type {column.type} with {column.null_count} missing; they must be "
            "whole numbers"
        )
    try:
        return np.asarray(column.cast(pyarrow.int64()).to_numpy())
    except pyarrow.ArrowException as error:
        raise files.FileError(f"{shard}: labels that are no classes ({error})") from None


def _class_names(shard: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_schema(shard).metadata or {}
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [str(name) for name in features["label"]["names"]]
    except (pyarrow.ArrowException, OSError, ValueError, RecursionError) as error:
        raise files.FileError(f"{shard}: not a readable parquet file ({error})") from None
    except (KeyError, TypeError) as error:
        raise files.FileError(
            f"{shard}: its schema does not name the classes of column 'label' ({error!r})"
        ) from None
