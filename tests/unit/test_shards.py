"""Shards that are damaged, or whose labels, sizes or class names are not those of images."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from trap2.data.forms import read_idx
from trap2.data.original import read
from trap2.data.parquet import read_image_parquet
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


def rewrite(path: Path, change: Callable[[pyarrow.Table], pyarrow.Table]) -> None:
    pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(path)), path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "1 shards of part 'test', their names say"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "not a readable parquet file"),
        (
            lambda path: rewrite(path, lambda table: table.replace_schema_metadata({})),
            "does not name the classes",
        ),
        (
            lambda path: rewrite(path, lambda table: table.drop_columns(["label"])),
            "no readable column 'label'",
        ),
    ],
)
def test_damaged_shards_are_named(change, message: str, catalogue, copied, laid_out) -> None:
    content = copied("cars", "hub")
    shard = content / "test-00000-of-00002.parquet"
    change(shard)
    with pytest.raises(files.FileError, match=message):
        read(catalogue["cars"], "cars_parquet", content)


def test_a_row_without_an_image_is_named(catalogue, copied) -> None:
    content = copied("cars", "hub")

    def empty(table: pyarrow.Table) -> pyarrow.Table:
        column = table.column("image").to_pylist()
        column[0] = {"bytes": None, "path": "00001.jpg"}
        changed = pyarrow.array(column, table.schema.field("image").type)
        return table.set_column(0, table.schema.field("image"), changed)

    rewrite(content / "train-00000-of-00002.parquet", empty)
    raw = read(catalogue["cars"], "cars_parquet", content)
    with pytest.raises(files.FileError, match="image 0 of train: the row holds no encoded image"):
        raw.parts["train"].load(0)
