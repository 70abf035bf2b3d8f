"""The object that Snakemake gives to a script, with its types.

``from trap2.runtime.script import snakemake`` gives a script the object that Snakemake put into its
globals before the first line ran.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol


class Files(Protocol):
    """Paths: all of them in order, or those of one name (a path, or a list of them)."""

    def __getattr__(self, name: str) -> Any: ...

    def __getitem__(self, index: int) -> str: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names with what they stand for."""


class Values(Protocol):
    """Parameters or resources by name."""

    def __getattr__(self, name: str) -> Any: ...

    def __getitem__(self, name: str) -> Any: ...

    def keys(self) -> Iterable[str]:
        """The names."""

    def get(self, name: str, default: Any = None) -> Any:
        """A value, or the default where it has no such name."""


class Wildcards(Protocol):
    """The wildcards of a job: texts."""

    def __getattr__(self, name: str) -> str: ...

    def __getitem__(self, name: str) -> str: ...

    def keys(self) -> Iterable[str]:
        """The names."""

    def get(self, name: str, default: str = "") -> str:
        """A wildcard, or the default where the job has no such one."""


class Snakemake(Protocol):
    """A job, as its script sees it."""

    input: Files
    output: Files
    params: Values
    wildcards: Wildcards
    resources: Values
    log: Files
    config: dict[str, Any]
    rule: str
    threads: int


if TYPE_CHECKING:
    snakemake: Snakemake
else:

    def __getattr__(name):
        if name != "snakemake":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if not hasattr(sys.modules["__main__"], name):
            raise ImportError(
                "a script is started by Snakemake: ask for a file that its rule makes"
            )
        return sys.modules["__main__"].snakemake
