"""Parquet shards, idx files and lists, honest and hostile: what was stored, or one sentence."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from harness import Refused, attempt, generator, numbers
from PIL import Image
from trap2.data.forms import read_idx, read_lines
from trap2.data.parquet import read_image_parquet

CLASSES = ["a", "b", "c"]


def picture(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def shard(random_: random.Random, kind: str) -> bytes:
    """One shard of a few images; ``kind`` names what is wrong with it."""
    count = random_.randint(1, 5)
    images = [{"bytes": picture(index), "path": None} for index in range(count)]
    labels = pyarrow.array([index % 3 for index in range(count)], pyarrow.int64())
    struct_ = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    image = pyarrow.array(images, struct_)
    features: object = {"label": {"names": CLASSES, "_type": "ClassLabel"}}
    if kind == "labels":
        labels = random_.choice(
            [
                pyarrow.array([None] * count, pyarrow.int64()),
                pyarrow.array(["x"] * count),
                pyarrow.array([0.5] * count),
                pyarrow.array([float("nan")] * count),
                pyarrow.array([[1]] * count),
                pyarrow.array([2**63] * count, pyarrow.uint64()),
            ]
        )
    if kind == "images":
        image = random_.choice(
            [
                pyarrow.array([None] * count, struct_),
                pyarrow.array([{"bytes": None, "path": "/etc/passwd"}] * count, struct_),
                pyarrow.array([{"bytes": b"no image", "path": None}] * count, struct_),
                pyarrow.array([b""] * count),
                pyarrow.array([1] * count),
            ]
        )
    if kind == "features":
        features = random_.choice([None, [], {}, {"label": None}, {"label": {"names": 5}}, "x", 7])
    metadata: bytes = json.dumps({"info": {"features": features}}).encode()
    if kind == "metadata":
        metadata = random_.choice([b"", b"{", b"\xff", b"[1]", b"7", b"[" * 5000, b'{"info": 1}'])
    columns = {"image": image, "label": labels}
    if kind == "columns":
        columns.pop(random_.choice(["image", "label"]))
    table = pyarrow.table(columns).replace_schema_metadata({"huggingface": metadata})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    content = bytearray(buffer.getvalue())
    if kind == "flipped":
        for _ in range(random_.randint(1, 20)):
            content[random_.randrange(len(content))] = random_.randrange(256)
    if kind == "footer":
        size = struct.unpack("<I", content[-8:-4])[0]
        for _ in range(random_.randint(1, 5)):
            content[-8 - random_.randrange(size + 4)] = random_.randrange(256)
    return bytes(content[: random_.randrange(len(content))] if kind == "cut" else content)


KINDS = [
    "honest",
    "labels",
    "images",
    "features",
    "metadata",
    "columns",
    "flipped",
    "footer",
    "cut",
]


@pytest.mark.parametrize("number", numbers(150))
def test_shards(number: int, tmp_path: Path) -> None:
    random_ = generator("shards", number)
    kind = random_.choice(KINDS)
    path = tmp_path / "train-00000-of-00001.parquet"
    path.write_bytes(shard(random_, kind))

    def everything() -> list[int]:
        part = read_image_parquet(tmp_path, ("train",)).parts["train"]
        values = [np.asarray(part.load(index)).flat[0] for index in range(len(part))]
        assert all(isinstance(label, int) for label in part.labels.tolist())
        return [int(value) for value in values]

    result = attempt(everything, tmp_path, [str(tmp_path)])
    if kind == "honest":
        assert result == list(range(len(result)))
    elif kind not in ("flipped", "footer"):
        assert isinstance(result, Refused), kind


@pytest.mark.parametrize("number", numbers(80))
def test_idx_files_and_lists(number: int, tmp_path: Path) -> None:
    random_ = generator("idx", number)
    shape = (random_.randint(0, 4), 3, 2)
    data = random_.randbytes(int(np.prod(shape)))
    content = struct.pack(">HBB3I", 0, 8, 3, *shape) + data
    kind = random_.choice(["honest", "cut", "flipped", "claims", "bomb", "gzip cut", "noise"])
    if kind == "cut":
        content = content[: random_.randrange(len(content))]
    if kind == "flipped":
        place = random_.randrange(16)
        content = content[:place] + bytes([random_.randrange(256)]) + content[place + 1 :]
    if kind == "claims":
        content = struct.pack(">HBB3I", 0, 8, 3, *(random_.getrandbits(32) for _ in "123")) + data
    if kind == "bomb":
        content += bytes(2**28) if number % 7 == 0 else bytes(2**20)
    if kind == "noise":
        content = random_.randbytes(random_.randrange(50))
    if random_.random() < 0.5 or kind in ("bomb", "gzip cut"):
        content = gzip.compress(content, 1)
    if kind == "gzip cut":
        content = content[: random_.randrange(len(content))]
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    result = attempt(lambda: read_idx(path, 3), tmp_path, [str(path)])
    if kind == "honest":
        assert result.shape == shape
        assert result.tobytes() == data
    elif kind != "flipped":
        assert isinstance(result, Refused), kind
    lines = attempt(lambda: read_lines(path), tmp_path, [str(path)])
    assert isinstance(lines, list | Refused)
