"""What the system says of a disk, a folder or a file, as one sentence with the remedy."""

from __future__ import annotations

import errno
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
