"""Reading what somebody else made: regular files of a bounded size, JSON and safetensors headers.

Nothing is parsed before its size is known to be plausible, and nothing is returned that a later
reader would take for something else: a key given twice, NaN, a tensor of a type that PyTorch
lacks.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from trap2.runtime.errors import Trap2Error

JSON_BYTES = 64 << 20
JSON_DEPTH = 64
JSON_NODES = 4_000_000

TENSOR_BYTES = 64 << 30
HEADER_BYTES = 32 << 20
TENSORS = 100_000
DIMENSIONS = 16
NAME_LETTERS = 512

# safetensors' names of the types that PyTorch reads, with the bytes of one value.
TYPES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}

# Types in which weights are computed with; F8 and integers are quantised and need their scales.
WEIGHT_TYPES = ("F16", "BF16", "F32", "F64")


class FileError(Trap2Error):
    """A file that cannot be used; the message names its path and what to do about it."""


def open_regular(path: str | Path, most: int) -> BinaryIO:
    """Open a regular file of at most ``most`` bytes for reading.

    Raises:
        FileError: there is none, it is a folder, a device, a pipe or a socket, or it is larger.
    """
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would wait here for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise FileError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be opened ({error})") from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a device, a pipe or a socket"
        raise FileError(f"{path}: not a regular file but {what}. Give the file itself.")
    if found.st_size > most:
        os.close(handle)
        raise FileError(
            f"{path}: {found.st_size} bytes, more than the {most} that such a file may have"
        )
    return os.fdopen(handle, "rb")


def read_bytes(path: str | Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes; errors as :func:`open_regular`."""
    with open_regular(path, most) as file:
        return file.read(min(os.fstat(file.fileno()).st_size, most))


def parse_json(content: bytes, nodes: int = JSON_NODES) -> Any:
    """JSON with bounds: each key once, finite numbers, at most :data:`JSON_DEPTH` levels.

    Raises:
        ValueError: it is not such JSON.
    """
    # Not less than there are nodes; a text may hold these letters too.
    found = sum(map(content.count, (b",", b"[", b"{")))
    if found > nodes:
        raise ValueError(f"some {found} values, more than the {nodes} that are read")
    try:
        value = json.loads(
            content,
            object_pairs_hook=_each_key_once,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise ValueError(f"nested more than {JSON_DEPTH} levels deep") from None
    _check_depth(value)
    return value


def _each_key_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is given twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if depth > JSON_DEPTH:
            raise ValueError(f"nested more than {JSON_DEPTH} levels deep")
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following += item.values()
                _check_texts(item)
            elif isinstance(item, list):
                following += item
            elif isinstance(item, str):
                _check_texts((item,))
        level, depth = following, depth + 1


def _check_texts(texts: Any) -> None:
    for text in texts:
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"half a letter (a lone surrogate) in {text[:80]!a}")


@dataclass(frozen=True)
class TensorInfo:
    """What a safetensors header says of one tensor.

    Attributes:
        dtype: safetensors' name of its type, such as ``F32``; one of :data:`TYPES`.
        shape: its shape.
    """

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """A safetensors file's header: its tensors by name, and its metadata."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def read_header(path: str | Path) -> Header:
    """Read and check a safetensors file's header, and the file's size against it.

    Raises:
        FileError: the file is no regular one, truncated, not safetensors, or holds more tensors
            or other types than are read.
    """
    with open_regular(path, TENSOR_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ValueError("it ends within its header")
            if length > HEADER_BYTES:
                raise ValueError(f"its header has {length} bytes; at most {HEADER_BYTES} are read")
            return _header(parse_json(file.read(length)), size - 8 - length)
        except ValueError as error:
            raise unreadable_tensors(path, error) from None


def unreadable_tensors(path: str | Path, why: object) -> FileError:
    """The error of a file that is no safetensors file, or a damaged one."""
    return FileError(
        f"{path}: not a readable safetensors file ({why}). It is damaged or of another format; "
        "delete it and run snakemake again, or get it anew."
    )


def _header(found: Any, content: int) -> Header:
    if not isinstance(found, dict):
        raise ValueError("its header is no mapping")
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its metadata are no texts")
    if len(found) > TENSORS:
        raise ValueError(f"{len(found)} tensors; at most {TENSORS} are read")
    if any(len(name) > NAME_LETTERS for name in found):
        raise ValueError(f"a tensor's name has more than {NAME_LETTERS} letters")
    tensors = {name: _tensor(name, entry) for name, entry in found.items()}
    spans = sorted(tuple(entry["data_offsets"]) for entry in found.values())
    at = 0
    for begin, end in spans:
        if begin != at:
            raise ValueError("its tensors overlap or leave a gap")
        at = end
    if at != content:
        raise ValueError(f"its header speaks of {at} bytes of tensors, it has {content}")
    return Header(tensors, metadata)


def _tensor(name: str, entry: Any) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the tensor {name[:80]!r} lacks dtype, shape or data_offsets")
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in TYPES:
        raise ValueError(
            f"the tensor {name[:80]!r} is of type {str(dtype)[:40]!r}, which PyTorch does not read"
        )
    if not (_sizes(shape) and len(shape) <= DIMENSIONS and _sizes(span) and len(span) == 2):
        raise ValueError(f"the tensor {name[:80]!r} has no shape or place: {str(entry)[:120]}")
    if span[1] - span[0] != math.prod(shape) * TYPES[dtype]:
        raise ValueError(f"the tensor {name[:80]!r} has another size than its shape {shape} takes")
    return TensorInfo(dtype, tuple(shape))


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40
        for value in values
    )
