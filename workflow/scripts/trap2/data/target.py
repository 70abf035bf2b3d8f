"""The folder into which an archive is unpacked: what may be written there, and how much."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from trap2.runtime import disk, files

# Photographs hardly compress and text compresses tenfold; beyond this an archive is a trap.
GROWTH_LIMIT = 100


GROWTH_FLOOR = 64 * 2**20


# A stored image takes hundreds of bytes; an archive with a member every few bytes is a trap too.
BYTES_A_MEMBER = 64


MEMBERS_FLOOR = 10_000


MEMBERS_LIMIT = 2_000_000


# What ext4, APFS and NTFS all take, with room for the folder's own path.
PART_LIMIT, NAME_LIMIT, DEPTH_LIMIT = 255, 700, 32

REMEDY = "name a folder on another disk as 'resources' in config/config.yaml"


class UnsafeArchiveError(files.FileError):
    """An archive with a member that must not be unpacked."""


class DamagedArchiveError(files.FileError):
    """A file that is no archive, is truncated or is damaged."""


def shown(name: str) -> str:
    """A member's name as messages quote it: printable, on one line, not endless."""
    text = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name.encode("utf-8", "backslashreplace").decode()
    )
    return text if len(text) <= 100 else f"{text[:60]}…{text[-30:]} ({len(name)} letters)"


def is_clutter(name: str) -> bool:
    """What macOS adds beside the files: ``__MACOSX``, ``.DS_Store``, ``._*``."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(("._", ".DS_Store")) for part in parts)


class Target:
    """The folder, with the names already taken and the bytes and members still allowed."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.archive = archive
        self.folder = folder
        size = archive.stat().st_size
        self.limit = size * GROWTH_LIMIT + GROWTH_FLOOR
        self.members_limit = min(size // BYTES_A_MEMBER + MEMBERS_FLOOR, MEMBERS_LIMIT)
        self.free = shutil.disk_usage(folder).free
        self.used = self.members = 0
        self._taken: dict[str, tuple[str, bool]] = {}

    def unsafe(self, name: str, problem: str) -> UnsafeArchiveError:
        """The error for a member that must not be unpacked."""
        return UnsafeArchiveError(
            f"{self.archive}: the member '{shown(name)}' {problem}; the archive is not the one its "
            "authors made"
        )

    def spend(self, name: str, size: int) -> None:
        """Count a member, or a record of one, before anything of it is read or written."""
        self.members += 1
        self.used += size
        if self.members > self.members_limit:
            raise UnsafeArchiveError(
                f"{self.archive}: more than {self.members_limit} members at '{shown(name)}', more "
                "than a file of its size can hold"
            )
        if size < 0 or self.used > self.limit:
            raise UnsafeArchiveError(
                f"{self.archive}: grows beyond {self.limit} bytes at '{shown(name)}', more than "
                f"{GROWTH_LIMIT} times its own size"
            )
        if self.used > self.free:
            raise files.FileError(
                f"{self.archive}: needs at least {self.used} bytes unpacked; the disk of "
                f"{self.folder} has {self.free} free. Make room (df -h), or {REMEDY}"
            )

    def admit(self, name: str, is_folder: bool) -> None:
        """Refuse a name that leaves the folder, that not every system takes, or that comes twice.

        Raises:
            UnsafeArchiveError: with the name and what is wrong with it.
        """
        path = PurePosixPath(name)
        if (
            path.is_absolute()
            or ".." in path.parts
            or "\\" in name
            or "\0" in name
            or PureWindowsPath(name).drive
        ):
            raise self.unsafe(name, "would be written outside the folder")
        if not path.parts and not is_folder:
            raise self.unsafe(name, "names the folder itself")
        try:
            lengths = [len(part.encode()) for part in path.parts]
        except UnicodeEncodeError:
            raise self.unsafe(name, "has a name that is not UTF-8") from None
        if re.search(r"[\x00-\x1f\x7f]", name):
            raise self.unsafe(name, "has a name with control characters")
        if max(lengths, default=0) > PART_LIMIT or sum(lengths) + len(lengths) > NAME_LIMIT:
            raise self.unsafe(name, "has a name that is too long for a file")
        if len(lengths) > DEPTH_LIMIT:
            raise self.unsafe(name, f"lies more than {DEPTH_LIMIT} folders deep")
        self._take(path, name, is_folder)

    def _take(self, path: PurePosixPath, name: str, is_folder: bool) -> None:
        """One spelling a name, so that what is unpacked depends on no system's idea of letters."""
        for place, folder in (*((parent, True) for parent in path.parents), (path, is_folder)):
            spelled = str(place)
            key = unicodedata.normalize("NFC", spelled).casefold()
            new = key not in self._taken
            known, was_folder = self._taken.setdefault(key, (spelled, folder))
            if known != spelled:
                raise self.unsafe(name, f"differs from '{shown(known)}' in its spelling alone")
            if was_folder != folder:
                raise self.unsafe(name, f"makes '{shown(known)}' both a file and a folder")
            if not (new or folder):
                raise self.unsafe(name, "comes twice")

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a member that was admitted; never through a link, never over anything.

        Raises:
            UnsafeArchiveError: something of that name is there, or its folder is elsewhere.
            FileError: the disk is full, or the folder cannot be written.
        """
        path = self.folder / PurePosixPath(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            root = os.path.realpath(self.folder, strict=True)
            if os.path.commonpath([root, os.path.realpath(path.parent, strict=True)]) != root:
                raise self.unsafe(name, "would be written outside the folder")
            # "x" follows no link and opens nothing that exists.
            with open(path, "xb") as file:
                for chunk in chunks:
                    file.write(chunk)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise self.unsafe(name, "is in the way of another one, or another of it") from None
        except OSError as error:
            raise disk.explain(error, path, REMEDY) from None
