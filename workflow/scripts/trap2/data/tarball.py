"""Read a tar archive forwards, with bounded memory, plain files and folders only.

Python's ``tarfile`` reads a member's long name or extended header whole, however large it says it
is, keeps every member, and makes links; before 3.11.13, 3.12.11 and 3.13.4 some of these led out of
the folder even with ``filter="data"`` (CVE-2025-4330, CVE-2025-4517).  Datasets need none of it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

from trap2.data.target import Target

BLOCK = 512


CHUNK = 2**18


# A name takes hundreds of bytes; whoever says that a header takes more wants the memory.
HEADER_LIMIT = 2**16


XZ_MEMORY = 2**27

DAMAGE = (tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError)

FOLDER, FILES = tarfile.DIRTYPE, (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
KINDS = {
    tarfile.SYMTYPE: "is a symbolic link",
    tarfile.LNKTYPE: "is a hard link",
    tarfile.CHRTYPE: "is a device",
    tarfile.BLKTYPE: "is a device",
    tarfile.FIFOTYPE: "is a pipe (FIFO)",
    tarfile.GNUTYPE_SPARSE: "is a sparse file",
}


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def untar(file: BinaryIO, target: Target) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Name and content of every file of a tar archive (plain, gzip, bzip2 or xz), in its order.

    Args:
        file: the archive.
        target: counts what is read, and admits names.

    Raises:
        UnsafeArchiveError: a member that is no plain file or folder, or that the target refuses.
        tarfile.TarError, and the others of DAMAGE: it is truncated or damaged.
    """
    stream = decompressed(file)
    extended: dict[str, str] = {}
    while (block := _exactly(stream, BLOCK)) != bytes(BLOCK):
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        name, size = extended.get("path", member.name), _size(extended, member.size)
        if member.type in _HEADERS:
            target.spend(name, BLOCK)
            if not 0 <= member.size <= HEADER_LIMIT:
                raise target.unsafe(
                    name, f"has a header of {member.size} bytes, more than {HEADER_LIMIT}"
                )
            extended |= _HEADERS[member.type](_content(stream, member.size))
            continue
        is_folder = member.isdir() or (name.endswith("/") and member.type in FILES)
        if member.type not in (FOLDER, *FILES) or any(key.startswith("GNU.") for key in extended):
            raise target.unsafe(name, KINDS.get(member.type, "is no plain file"))
        target.spend(name, 0 if is_folder else size)
        target.admit(name, is_folder)
        extended = {}
        if not is_folder:
            content = _chunks(stream, size)
            yield name, content
            for _ in content:  # of a member that nobody wanted
                pass
            _exactly(stream, -size % BLOCK)
    # What a compressor checks is at its end; zeros after the end mark are the tape's filling.
    while chunk := stream.read(CHUNK):
        target.used += len(chunk)
        target.spend("the end mark", 0)


def is_tar(file: BinaryIO) -> bool:
    """Whether a file begins as a tar archive does, compressed or not."""
    try:
        block = decompressed(file).read(BLOCK)
        return block == bytes(BLOCK) or bool(tarfile.TarInfo.frombuf(block, "utf-8", "replace"))
    except (tarfile.HeaderError, *DAMAGE):
        return False
    finally:
        file.seek(0)


def decompressed(file: BinaryIO) -> _Readable:
    """What a file holds, decompressed if it begins as gzip, bzip2 or xz does."""
    start = file.read(6)
    file.seek(0)
    if start[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=file)
    if start[:3] == b"BZh":
        return bz2.BZ2File(file)
    return _Xz(file) if start == b"\xfd7zXZ\0" else file


class _Xz:
    """Decompressed xz.  ``lzma.LZMAFile`` takes as much memory as the file demands, up to 4 GiB."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.decoder: lzma.LZMADecompressor | None = None

    def read(self, size: int, /) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            data = b""
            if self.decoder is None or self.decoder.eof:
                left = self.decoder.unused_data if self.decoder else b""
                data = left.lstrip(b"\0") or self.file.read(CHUNK).lstrip(b"\0" if left else b"")
                if not data:
                    break
                self.decoder = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            elif self.decoder.needs_input and not (data := self.file.read(CHUNK)):
                raise EOFError("the compressed data end before their end mark")
            parts.append(self.decoder.decompress(data, size))
            size -= len(parts[-1])
        return b"".join(parts)


def _exactly(stream: _Readable, size: int) -> bytes:
    content = _read(stream, size)
    if len(content) != size:
        raise tarfile.ReadError("it ends before its end mark")
    return content


def _read(stream: _Readable, size: int) -> bytes:
    parts = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _content(stream: _Readable, size: int) -> bytes:
    content = _exactly(stream, size)
    _exactly(stream, -size % BLOCK)
    return content


def _chunks(stream: _Readable, size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = _exactly(stream, min(size, CHUNK))
        size -= len(chunk)
        yield chunk


def _size(extended: dict[str, str], size: int) -> int:
    text = extended.get("size", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else size


def _gnu_name(content: bytes) -> dict[str, str]:
    return {"path": content.partition(b"\0")[0].decode("utf-8", "surrogateescape")}


def _pax(content: bytes) -> dict[str, str]:
    """The records ``LENGTH KEY=VALUE\\n`` of an extended header."""
    found, position = {}, 0
    while position < len(content) and content[position]:
        record = re.compile(rb"([0-9]{1,6}) ([^=\n]+)=").match(content, position)
        end = position + int(record[1]) if record else 0
        if not record or not record.end() < end <= len(content) or content[end - 1] != 0x0A:
            raise tarfile.ReadError("an extended header cannot be read")
        value = content[record.end() : end - 1]
        found[record[2].decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        position = end
    return found


def _ignored(content: bytes) -> dict[str, str]:
    return {}


def _for_all(content: bytes) -> dict[str, str]:
    """A header for all members that follow: remarks are ignored, a name for all is refused."""
    found = _pax(content)
    if {"path", "size"} & set(found):
        raise tarfile.ReadError("one extended header names all members")
    return {}


_HEADERS: dict[bytes, Callable[[bytes], dict[str, str]]] = {
    tarfile.XHDTYPE: _pax,
    tarfile.SOLARIS_XHDTYPE: _pax,
    tarfile.XGLTYPE: _for_all,
    tarfile.GNUTYPE_LONGNAME: _gnu_name,
    tarfile.GNUTYPE_LONGLINK: _ignored,  # a link's own header follows, and is refused
}
