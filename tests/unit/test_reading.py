"""Only regular files of plausible size are opened, and what is in them is bounded and checked."""

import json
import os
import struct
import time

import pytest
import torch
from trap2.runtime import files, reading


def header(path, tensors, content=b"", length=None):
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + content)
    return path


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


READERS = [files.read_tensors, files.read_metadata, files.tensors_sha256, files.read_json]


@pytest.mark.parametrize("read", [*READERS, files.sha256])
def test_only_regular_files_are_opened(tmp_path, read):
    (tmp_path / "device").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("device", "pipe", "folder"):
        started = time.monotonic()
        with pytest.raises(files.FileError, match=f"{name}: not a regular file"):
            read(tmp_path / name)
        assert time.monotonic() - started < 1


@pytest.mark.parametrize("read", READERS)
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(files.FileError, match="nowhere: no such file"):
        read(tmp_path / "nowhere")


def test_a_file_of_implausible_size_is_not_read(tmp_path):
    path = tmp_path / "value.json"
    with open(path, "wb") as file:
        file.truncate(reading.JSON_BYTES + 1)
    with pytest.raises(files.FileError, match=r"value\.json: \d+ bytes, more than the"):
        files.read_json(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"r": 16, "r": 4}', "the key 'r' is given twice"),
        ('{"a": [{"b": 1, "b": 1}]}', "the key 'b' is given twice"),
        ("[" * 100_000, "nested more than 64 levels"),
        ("[" * 100 + "]" * 100, "nested more than 64 levels"),
        ('{"x": NaN}', "NaN is no number"),
        ('{"x": -Infinity}', "-Infinity is no number"),
        ('{"x": 1e999}', "the number 1e999 is too large"),
        ('{"x": 1' + "0" * 5000 + "}", "not valid JSON"),
        ('{"x": "\\ud800"}', "half a letter"),
        ('{"\\ud800": 1}', "half a letter"),
        ("[" + "[]," * 4_000_001 + "1]", "values, more than the 4000000"),
    ],
)
def test_json_of_another_kind_is_refused(tmp_path, text, why):
    path = tmp_path / "value.json"
    path.write_text(text, "utf-8")
    with pytest.raises(files.FileError, match=rf"value\.json: not valid JSON \(.*{why}|{why}"):
        files.read_json(path)


def test_all_of_plain_json_is_read(tmp_path):
    value = {"a": [1, -2.5, None, True, "é{,[", 1 << 70], "b": {"c": {}}, "é": 1e-300}
    files.write_json(tmp_path / "value.json", value)
    assert files.read_json(tmp_path / "value.json") == value


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ([], "its header is no mapping"),
        ({"a": 1}, "'a' lacks dtype"),
        ({"a": entry(dtype="F4")}, "type 'F4', which PyTorch does not read"),
        ({"a": entry(dtype=None)}, "type 'None'"),
        ({"a": entry(shape=[2])}, "another size than its shape"),
        ({"a": entry(shape=[True])}, "no shape or place"),
        ({"a": entry(shape=[-1])}, "no shape or place"),
        ({"a": entry(shape=[1] * 40)}, "no shape or place"),
        ({"a": entry(shape=[1 << 62, 0], offsets=[0, 0])}, "no shape or place"),
        ({"a": entry(), "b": entry()}, "overlap or leave a gap"),
        ({"a": entry(shape=[2], offsets=[0, 8])}, "speaks of 8 bytes of tensors, it has 4"),
        ({"a": entry(), "__metadata__": {"x": 1}}, "metadata are no texts"),
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
    ],
)
def test_a_header_of_another_kind_is_refused(tmp_path, tensors, why):
    path = header(tmp_path / "a.safetensors", tensors, bytes(4))
    for read in (files.read_tensors, files.read_metadata):
        with pytest.raises(files.FileError, match=rf"a\.safetensors: not a readable .*{why}"):
            read(path)


def test_a_header_of_implausible_size_is_not_parsed(tmp_path):
    path = tmp_path / "a.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", reading.HEADER_BYTES + 1))
        file.truncate(8 + reading.HEADER_BYTES + 1)
    with pytest.raises(files.FileError, match="its header has 33554433 bytes"):
        files.read_tensors(path)
    many = {f"t{i}": entry(shape=[0], offsets=[0, 0]) for i in range(reading.TENSORS + 1)}
    with pytest.raises(files.FileError, match="100001 tensors; at most 100000"):
        files.read_tensors(header(path, many))


def test_every_type_that_the_header_allows_is_read(tmp_path):
    for number, (name, size) in enumerate(reading.TYPES.items()):
        path = header(
            tmp_path / f"{number}.safetensors", {"a": entry(name, (3,), (0, 3 * size))}, bytes(24)
        )
        path.write_bytes(path.read_bytes()[: len(path.read_bytes()) - 24 + 3 * size])
        assert files.read_tensors(path)["a"].element_size() == size
        assert files.tensors_sha256(path)


def test_the_digest_of_tensors_survives_a_rewrite_and_notices_a_value(tmp_path):
    first, again, other = (tmp_path / f"{n}.safetensors" for n in ("first", "again", "other"))
    files.write_tensors(first, {"a": torch.ones(3), "b": torch.zeros(2)}, {"x": "1"})
    files.write_tensors(again, {"b": torch.zeros(2), "a": torch.ones(3)})
    files.write_tensors(other, {"a": torch.ones(3), "b": torch.full((2,), 1e-30)})
    assert files.tensors_sha256(first) == files.tensors_sha256(again)
    assert files.tensors_sha256(first) != files.tensors_sha256(other)
    files.write_tensors(first, {"a": torch.ones(3) * 2, "b": torch.zeros(2)}, {"x": "1"})
    assert files.tensors_sha256(first) != files.tensors_sha256(again)
