"""What every generator of the project's fuzz shares: cases by number, and what may come of one.

A case is a function of a seed and its number alone, so that a failing one can be had again:
``pytest "tests/fuzz/test_adapters.py" -k "17"``.  ``FUZZ=5000 pytest tests/fuzz`` makes more of
each kind.  What is tried either gives a value, which the caller compares with somebody else's, or
is refused by one :class:`Trap2Error` that names a file or key: no other exception, no more than
:data:`SECONDS`, no more than :data:`MEMORY`, no file written outside its folder, no network.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trap2.runtime.errors import Trap2Error

SEED = 14
SECONDS = 10
MEMORY = 1 << 30
LONGEST_MESSAGE = 4000
# Where a case's own server is; nothing else is the network's.
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Refused:
    """What was tried is refused, with a message for its user."""

    message: str


class Broken(AssertionError):
    """A case did what none may do."""


def numbers(usual: int) -> range:
    """The numbers of a kind's cases: ``usual`` many, or as many as ``FUZZ`` says."""
    return range(int(os.environ.get("FUZZ", usual)))


def generator(kind: str, number: int) -> random.Random:
    """The random numbers of one case."""
    return random.Random(f"{SEED}/{kind}/{number}")


def attempt(action: Callable[[], Any], folder: Path, names: Sequence[str]) -> Any:
    """Do something that a hostile input may break.

    Args:
        action: what is tried.
        folder: the only one in which it may write.
        names: a refusal must name one of these, a file or a key.

    Returns:
        What ``action`` returns, or :class:`Refused`.

    Raises:
        Broken: it does what no case may do.
    """
    with _within(folder), _in_time(), _in_memory():
        try:
            result = action()
        except Trap2Error as error:
            result = Refused(str(error))
    if isinstance(result, Refused):
        check_message(result.message, names)
    return result


def check_message(message: str, names: Sequence[str]) -> None:
    """A refusal is short, without a trace, and names a file or key.

    Raises:
        Broken: it is not.
    """
    if "Traceback" in message or not 0 < len(message) < LONGEST_MESSAGE:
        raise Broken(f"no message for a user: {message[:500]!r} ({len(message)} letters)")
    if not any(name in message for name in names):
        raise Broken(f"names none of {list(names)[:8]}: {message[:500]}")


@contextmanager
def _in_time() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise Broken(f"took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _in_memory() -> Iterator[None]:
    """An allocation past the limit fails (on Linux, where the present size can be read)."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    except MemoryError:
        raise Broken(f"took more than {MEMORY >> 20} MB") from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# The folder in which the present case may write; an audit hook cannot be taken off again.
_allowed: list[str] = []
_hooked: list[bool] = []
_WRITING = {
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.rename": (0, 1),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "tempfile.mkstemp": (0,),
}


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _allowed:
        return
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = arguments[1][0] if event == "socket.connect" else arguments[0]
        if host != LOOPBACK:
            raise Broken(f"went to the network: {arguments}")
        return
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        paths = [path] if writes else []
    else:
        paths = [arguments[place] for place in _WRITING.get(event, ())]
    # A whole tree is removed by names relative to an open folder.
    handle = arguments[1] if event in ("os.remove", "os.rmdir") else -1
    base = os.readlink(f"/proc/self/fd/{handle}") if handle >= 0 else ""
    for path in paths:
        if not isinstance(path, str | bytes | os.PathLike):
            continue
        place = os.path.realpath(os.path.join(base, os.fsdecode(path)))
        # Python's own compiled modules are no output.
        if not place.startswith((_allowed[0], "/dev/", sys.prefix)) and "__pycache__" not in place:
            raise Broken(f"{event} outside its folder: {place}")


@contextmanager
def _within(folder: Path) -> Iterator[None]:
    if not _hooked:
        sys.addaudithook(_watch)
        _hooked.append(True)
    _allowed.append(os.path.realpath(folder))
    try:
        yield
    finally:
        _allowed.clear()
