"""Unpack zip and tar archives that come from elsewhere, without trusting what they say.

Nothing is written outside the folder, and nothing but plain files and folders is made: links,
devices, names that are absolute, climb, come twice or fit no file system, and archives that grow
out of all proportion are refused, by name, before or as they appear.
"""

from __future__ import annotations

import errno
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from trap2.data.tarball import DAMAGE, is_tar, untar
from trap2.data.target import (
    REMEDY,
    DamagedArchiveError,
    Target,
    UnsafeArchiveError,
    is_clutter,
    shown,
)
from trap2.runtime import disk, files
from trap2.runtime.reading import open_regular

__all__ = ["DamagedArchiveError", "UnsafeArchiveError", "unpack"]

CHUNK = 2**18


ARCHIVE_BYTES = 2**40


REPORT_EVERY = 20_000


# A zip's list of members, which is read whole; 130 000 images take 14 MB.
DIRECTORY_LIMIT = 2**25


LOCAL_HEADER = 30


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
OTHER_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz"}


def unpack(archive: str | Path, folder: str | Path, log: Callable[[str], None] = print) -> int:
    """Unpack a zip or tar archive (gzip, bzip2, xz) into ``folder``.

    Directories and files that macOS adds (``__MACOSX``, ``.DS_Store``, ``._*``) are left out.

    Returns:
        The number of files written.

    Raises:
        UnsafeArchiveError: a member's name, type or size is refused; the message names it.
        DamagedArchiveError: the file is no archive, is truncated or is damaged.
        FileError: it is no regular file, the disk is full or the folder cannot be written.
    """
    archive, folder = Path(archive), Path(folder)
    count = 0
    try:
        with open_regular(archive, ARCHIVE_BYTES) as file:
            with disk.explained(folder, REMEDY):
                folder.mkdir(parents=True, exist_ok=True)
                target = Target(archive, folder)
            for name, content in _members(archive, file, target):
                if is_clutter(name):
                    continue
                target.write(name, content)
                count += 1
                if count % REPORT_EVERY == 0:
                    log(f"{archive.name}: {count} files unpacked")
    except files.FileError:
        raise
    # zipfile answers nonsense in a directory with whatever fails first.
    except (*DAMAGE, zipfile.BadZipFile, struct.error, ValueError, RuntimeError) as error:
        raise DamagedArchiveError(f"{archive}: damaged or truncated archive ({error})") from None
    except OSError as error:
        raise _damaged_or_disk(error, archive) from None
    return count


def _damaged_or_disk(error: OSError, archive: Path) -> files.FileError:
    """bz2 and seeking to nowhere raise an OSError of the system's, or one without a number."""
    if error.errno in (None, errno.EINVAL):
        return DamagedArchiveError(f"{archive}: damaged or truncated archive ({error})")
    return disk.explain(error, archive, REMEDY)


def _members(
    archive: Path, file: BinaryIO, target: Target
) -> Iterator[tuple[str, Iterable[bytes]]]:
    if is_tar(file):
        return untar(file, target)
    if zipfile.is_zipfile(file):
        return _unzip(archive, file, target)
    raise DamagedArchiveError(
        f"{archive}: neither a tar nor a whole zip archive; it is truncated or another file"
    )


class _Careful:
    """A file of which nothing endless is read at once, as zipfile reads a directory."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        content = self.file.read(
            DIRECTORY_LIMIT + 1 if size < 0 else min(size, DIRECTORY_LIMIT + 1)
        )
        if len(content) > DIRECTORY_LIMIT:
            raise zipfile.BadZipFile(f"its list of members takes more than {DIRECTORY_LIMIT} bytes")
        return content


def _unzip(archive: Path, file: BinaryIO, target: Target) -> Iterator[tuple[str, Iterable[bytes]]]:
    with zipfile.ZipFile(cast(BinaryIO, _Careful(file))) as opened:
        members = opened.infolist()
        for member in members:
            _check_member(archive, member, target)
        _check_apart(members, target)
        for member in members:
            if not member.is_dir():
                yield member.filename, _content(opened, member)


def _check_member(archive: Path, member: zipfile.ZipInfo, target: Target) -> None:
    # zipfile ends a name at its first NUL.
    target.admit(member.orig_filename, member.is_dir())
    target.spend(member.filename, member.file_size)
    mode = member.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise target.unsafe(member.filename, "is a link")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise target.unsafe(member.filename, "is a pipe or a device")
    if member.flag_bits & 0x41:
        raise files.FileError(f"{archive}: the member '{shown(member.filename)}' is encrypted")
    if member.compress_type not in METHODS:
        known = OTHER_METHODS.get(member.compress_type, "unknown")
        raise files.FileError(
            f"{archive}: the member '{shown(member.filename)}' is compressed by method "
            f"{member.compress_type} ({known}); stored and deflate are read. Pack it anew: "
            "unzip, then zip -r"
        )


def _check_apart(members: list[zipfile.ZipInfo], target: Target) -> None:
    """Refuse members that share their bytes: small archives that unpack to terabytes do."""
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise target.unsafe(member.filename, "overlaps another one")
        end = member.header_offset + LOCAL_HEADER + member.compress_size


def _content(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    size = 0
    with opened.open(member) as content:
        while chunk := content.read(CHUNK):
            size += len(chunk)
            yield chunk
    if size != member.file_size:
        raise zipfile.BadZipFile(f"'{shown(member.filename)}' is shorter than the list says")
