"""Results that are dated in the future, as after a clock that went back."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from trap2.runtime.errors import Trap2Error

TOLERANCE = 60.0
"""Seconds by which a file server's clock may be ahead."""


def refuse_future_files(folders: Iterable[str | Path]) -> None:
    """End a run before its jobs if one of its files is dated in the future.

    What stands behind such a file would run again, and fail: Snakemake takes an output that is
    older than its input for one that the job did not write, and removes it.

    Raises:
        Trap2Error: with the command that gives the files today's date.
    """
    late = time.time() + TOLERANCE
    places = [str(folder) for folder in folders if Path(folder).is_dir()]
    found = sorted(path for folder in places for path in _files(folder) if _date(path) > late)
    if found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(_date(found[0])))
        count = "a file is" if len(found) == 1 else f"{len(found)} files are"
        where = " ".join(shlex.quote(folder) for folder in places)
        raise Trap2Error(
            f"{count} dated in the future, such as {found[0]} ({when}); the clock went back, or "
            "another one wrote them. Jobs that read them would run again and fail. Nothing was "
            "run. If the clock is right now, give them its time:\n"
            f"    find {where} -newermt '1 minute' -exec touch {{}} +"
        )


def _files(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry.path


def _date(path: str) -> float:
    return os.lstat(path).st_mtime
