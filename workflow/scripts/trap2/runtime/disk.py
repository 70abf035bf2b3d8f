"""What the system says of a disk, a folder or a file, as one sentence with the remedy."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trap2.runtime.files import FileError

FULL = (errno.ENOSPC, errno.EDQUOT)


FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def explained(where: str | Path, remedy: str) -> Iterator[None]:
    """Turn what the system refuses into a FileError that says what can be done.

    Args:
        where: the file or folder to name where the system names none.
        remedy: what to do about a full disk or a folder that cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise explain(error, where, remedy) from None


def explain(error: OSError, where: str | Path, remedy: str) -> FileError:
    """The error as a sentence: the file, what the system says of it, and what to do."""
    path = error.filename if isinstance(error.filename, (str, Path)) else where
    said = error.strerror or type(error).__name__
    if error.errno in FULL:
        return FileError(f"{path}: {said}: the disk is full. Make room (df -h), or {remedy}")
    if error.errno in FORBIDDEN:
        return FileError(f"{path}: {said}. Give yourself the right to write (ls -ld), or {remedy}")
    return FileError(f"{path}: {said}")


def check_regular(path: str | Path) -> None:
    """Refuse what is no file: a pipe would be waited for without end, a device read without end.

    Raises:
        FileError: nothing is there, or something else than a file is.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(mode):
        raise FileError(f"{path}: {_kind(mode)}, not a file; put the file itself there")


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe (FIFO)",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
