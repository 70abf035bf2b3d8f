"""Ending a long job in good order when its scheduler asks for it.

SLURM sends SIGTERM some seconds (KillWait, a partition's GraceTime) before it kills a job that is
over its time limit, preempted or cancelled.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupted(RuntimeError):
    """A job was asked to end and did, after it had kept what it could."""

    def __init__(self, step: int) -> None:
        """Say after which step the job ended."""
        super().__init__(
            f"ended by SIGTERM (time limit, preemption or cancellation) after step {step}; "
            "the same command goes on from there"
        )


@contextmanager
def noticing_sigterm() -> Iterator[Callable[[], bool]]:
    """Take note of a SIGTERM instead of dying of it.

    Yields:
        A function that says whether one came.  Outside the main thread, where Python accepts no
        handlers, none is noticed.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
