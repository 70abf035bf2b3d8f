"""What the benchmarks measure: our time as a share of the plain way's, in the same run."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Attributes:
        group: what was measured, such as ``step``.
        what: ours against the plain way, in words.
        ratio: ours / plain, of times or of counts; less is better.
        limit: the ratio that it is held against; None where there is none.
        note: the times themselves, and whatever else a reader needs.
    """

    group: str
    what: str
    ratio: float
    limit: float | None
    note: str

    @property
    def met(self) -> bool | None:
        """Whether the ratio is within its limit; None where there is none."""
        return None if self.limit is None else self.ratio <= self.limit

    def line(self) -> str:
        """A row of the table."""
        limit = "" if self.limit is None else f"{self.limit:.3g}"
        verdict = {None: "", True: "met", False: "MISSED"}[self.met]
        return f"{self.group:9} {self.what:58} {self.ratio:7.3g} {limit:>6} {verdict:6} {self.note}"


HEADING = f"{'group':9} {'ours / the plain way':58} {'ratio':>7} {'limit':>6} {'':6} measured"


def fastest(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The least seconds of each of some ways, taken in turn so that noise meets all alike."""
    found = dict.fromkeys(ways, float("inf"))
    for way in ways.values():
        way()
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            found[name] = min(found[name], time.perf_counter() - start)
    return found


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return name[1].strip() if name else platform.machine()


def host_kind() -> str:
    """A file's name for this kind of machine."""
    found = machine()
    name = found.get("gpu") or f"{found['processor']} {found['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def as_json(figures: Iterable[Figure]) -> dict[str, Any]:
    """The machine and the figures, for a file."""
    return {"machine": machine(), "figures": [asdict(f) | {"met": f.met} for f in figures]}
