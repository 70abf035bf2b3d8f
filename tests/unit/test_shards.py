"""Shards whose labels, sizes or class names are not what images of classes have."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from trap2.data.parquet import read_image_parquet
from trap2.data.readers import read_idx
from trap2.runtime import files


def shard(folder: Path, labels: Any, metadata: bytes | None = None) -> None:
    names = {"info": {"features": {"label": {"names": ["a", "b"]}}}}
    image = pyarrow.array([{"bytes": b"x", "path": None}] * len(labels))
    table = pyarrow.table({"image": image, "label": labels}).replace_schema_metadata(
        {"huggingface": json.dumps(names).encode() if metadata is None else metadata}
    )
    pyarrow.parquet.write_table(table, folder / "train-00000-of-00001.parquet")


@pytest.mark.parametrize(
    "labels",
    [
        pyarrow.array([0.0, 0.5]),
        pyarrow.array([0, None]),
        pyarrow.array(["0", "1"]),
        pyarrow.array([0, 2**63], pyarrow.uint64()),
    ],
)
def test_a_label_that_is_no_whole_number_is_refused(labels: Any, tmp_path: Path) -> None:
    """0.5 was read as class 0."""
    shard(tmp_path, labels)
    with pytest.raises(files.FileError, match=r"train-00000-of-00001\.parquet: labels"):
        read_image_parquet(tmp_path, ("train",))


def test_a_shard_with_more_rows_than_its_size_holds_is_refused(tmp_path: Path) -> None:
    """Equal labels and images take no place in the file, but all the memory."""
    shard(tmp_path, pyarrow.array([0] * 1_000_000, pyarrow.int64()))
    with pytest.raises(files.FileError, match="1000000 rows, more images than a file of its size"):
        read_image_parquet(tmp_path, ("train",))


def test_class_names_nested_without_end_are_refused(tmp_path: Path) -> None:
    shard(tmp_path, pyarrow.array([0]), b"[" * 10_000)
    with pytest.raises(files.FileError, match=r"\.parquet: not a readable parquet file"):
        read_image_parquet(tmp_path, ("train",))


def test_a_gzipped_idx_file_that_explodes_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 2) + bytes(2**26), 1))
    with pytest.raises(files.FileError, match=r"labels\.gz: more than 2 bytes of data, its header"):
        read_idx(path, 1)
