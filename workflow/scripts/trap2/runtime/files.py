"""Reading and writing files: whole or not at all, checked, never a pickle."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from trap2.runtime.reading import (
    JSON_BYTES,
    TENSOR_BYTES,
    parse_json,
    read_header,
    unreadable_tensors,
)
from trap2.runtime.reading import FileError as FileError
from trap2.runtime.reading import read_bytes as read_bounded

if TYPE_CHECKING:
    import torch


SEAL = "digest"


def write_whole(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Call ``write`` on a temporary file beside ``path``, then rename it into place.

    Whoever reads ``path`` sees the old file or the new one, never a part of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: str | Path, content: bytes) -> None:
    write_whole(path, lambda file: file.write(content))


def write_text(path: str | Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON with sorted keys and a final newline, so that equal values are equal bytes."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON, in which each key stands once and all numbers are finite.

    Raises:
        FileError: the file is missing, no regular one, too large, or not such JSON.
    """
    try:
        return parse_json(read_bounded(path, JSON_BYTES))
    except FileError:
        raise
    except ValueError as error:
        raise FileError(
            f"{path}: not valid JSON ({error}). Delete it and run snakemake again."
        ) from None


def write_csv(path: str | Path, columns: list[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as CSV: the given columns in order, ``\\n`` line ends, missing values empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Read a CSV written by :func:`write_csv`; every value is a string."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, in the order of their names, sealed with their digest.

    The digest of names, types, shapes, values and metadata stands in the metadata under
    ``digest``; other readers of safetensors do not mind it.
    """
    from safetensors.torch import save

    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    metadata = dict(metadata or {})
    content = save(ordered, metadata={**metadata, SEAL: _digest(ordered, metadata)})
    write_bytes(path, _with_sorted_header(content))


def _with_sorted_header(content: bytes) -> bytes:
    """The same safetensors file with its header in one order; the library's order is random."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Read safetensors.  Nothing in the file is executed, whatever it holds.

    Raises:
        FileError: the file is missing, truncated, not safetensors, or its content is not what
            was sealed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    header = read_header(path)
    try:
        tensors = load(read_bounded(path, TENSOR_BYTES))
    except SafetensorError as error:
        raise unreadable_tensors(path, error) from None
    metadata = dict(header.metadata)
    seal = metadata.pop(SEAL, None)
    if seal is not None and seal != _digest(tensors, metadata):
        raise FileError(
            f"{path}: damaged: its content is not what was written. Delete it and run snakemake "
            "again."
        )
    return tensors


@functools.lru_cache(maxsize=64)
def _tensors_sha256(path: str, _size: int, _changed: int) -> str:
    return _digest(read_tensors(path), {})


def tensors_sha256(path: str | Path) -> str:
    """The SHA-256 of a safetensors file's names, types, shapes and values.

    It is the same after the file was written anew with other metadata or in another order.

    Raises:
        FileError: as :func:`read_tensors`.
    """
    read_header(path)
    found = os.stat(path)
    return _tensors_sha256(str(path), found.st_size, found.st_mtime_ns)


def _digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    import torch

    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_metadata(path: str | Path) -> dict[str, str]:
    """The text metadata in a safetensors file's header, empty if it has none.

    Raises:
        FileError: as :func:`read_tensors`.
    """
    return dict(read_header(path).metadata)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, as lower-case hexadecimal.

    Raises:
        FileError: it is no regular file; a device has no end.
        OSError: it cannot be opened.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise FileError(f"{path}: not a regular file")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
