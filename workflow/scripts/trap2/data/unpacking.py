"""Unpack zip and tar archives that come from elsewhere, without trusting what they say.

Nothing is written outside the folder: names that are absolute or climb, links that leave it,
devices and archives that grow out of all proportion are refused, by name, before or as they appear.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from trap2.runtime import files

# Photographs hardly compress and text compresses tenfold; beyond this an archive is a trap.
GROWTH_LIMIT = 100


GROWTH_FLOOR = 64 * 2**20

REPORT_EVERY = 20_000


class UnsafeArchiveError(files.FileError):
    """An archive with a member that must not be unpacked."""


def unpack(archive: str | Path, folder: str | Path, log: Callable[[str], None] = print) -> int:
    """Unpack a zip or tar archive (gzip, bzip2, xz) into ``folder``.

    Directories and files that macOS adds (``__MACOSX``, ``.DS_Store``, ``._*``) are left out.

    Returns:
        The number of files written.

    Raises:
        UnsafeArchiveError: a member's name, type or size is refused; the message names it.
        FileError: the file is no archive, is truncated or is damaged.
    """
    archive, folder = Path(archive), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if tarfile.is_tarfile(archive):
            members = _untar(archive, folder)
        elif zipfile.is_zipfile(archive):
            members = _unzip(archive, folder)
        else:
            raise files.FileError(
                f"{archive}: neither a tar nor a whole zip archive; it is truncated or another file"
            )
        count = 0
        for count, _ in enumerate(members, 1):
            if count % REPORT_EVERY == 0:
                log(f"{archive.name}: {count} files unpacked")
    except tarfile.FilterError as error:
        raise UnsafeArchiveError(f"{archive}: {error}") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise files.FileError(f"{archive}: damaged or truncated archive ({error})") from None
    return count


class _Budget:
    """How much an archive may still write."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.archive = archive
        self.limit = archive.stat().st_size * GROWTH_LIMIT + GROWTH_FLOOR
        self.free = shutil.disk_usage(folder).free
        self.used = 0

    def spend(self, name: str, size: int) -> None:
        self.used += size
        if self.used > self.limit:
            raise UnsafeArchiveError(
                f"{self.archive}: grows beyond {self.limit} bytes at '{name}', more than "
                f"{GROWTH_LIMIT} times its own size"
            )
        if self.used > self.free:
            raise files.FileError(
                f"{self.archive}: needs at least {self.used} bytes unpacked; the disk has "
                f"{self.free} free"
            )


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or "\0" in name
        or PureWindowsPath(name).drive
    ):
        raise UnsafeArchiveError(
            f"{archive}: the member '{name}' would be written outside the folder; the archive is "
            "not the one its authors made"
        )


def _is_clutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(("._", ".DS_Store")) for part in parts)


def _unzip(archive: Path, folder: Path) -> Iterator[str]:
    budget = _Budget(archive, folder)
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        for member in members:
            _check_name(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UnsafeArchiveError(f"{archive}: the member '{member.filename}' is a link")
            if member.flag_bits & 0x1:
                raise files.FileError(f"{archive}: the member '{member.filename}' is encrypted")
            budget.spend(member.filename, member.file_size)
        for member in members:
            if member.is_dir() or _is_clutter(member.filename):
                continue
            opened.extract(member, folder)
            yield member.filename


def _untar(archive: Path, folder: Path) -> Iterator[str]:
    budget = _Budget(archive, folder)
    with tarfile.open(archive, "r:*") as opened:
        for member in opened:
            _check_name(archive, member.name)
            budget.spend(member.name, member.size)
            if _is_clutter(member.name):
                continue
            opened.extract(member, folder, filter="data")
            if not member.isdir():
                yield member.name
