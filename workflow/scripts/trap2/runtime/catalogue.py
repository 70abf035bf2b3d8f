"""The one shape of a catalogue: entries by name, each with its source, its needs and its options.

The library has six: readers, families of models, protections, merging methods, treatments (what
ordinary use does to an update) and attacks.  They are free of heavy imports, because the workflow's
own process reads them in every job; what an entry computes with, its function imports when it runs.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from trap2.runtime.errors import Trap2Error

Value = int | float | str

Options = Mapping[str, Any]
"""An entry's options, checked and complete."""

Need = Literal["nothing", "sample", "labels", "budget"]
"""What an entry must see besides updates: nothing, unlabelled images of every task (a sample),
labelled ones, or a training run of its own (a budget of steps)."""


class CatalogueError(Trap2Error):
    """An entry that cannot be added, an unknown one, or options that it does not take."""


class UnknownEntry(CatalogueError, KeyError):
    """A name that a catalogue does not have."""

    __str__ = Exception.__str__


@dataclass(frozen=True)
class Option:
    """One option of an entry: a number in a range, or one of some names.

    Attributes:
        default: used when the configuration does not say.
        about: what it is, with its unit.
        low, high: range of a number.
        low_open, high_open: whether the end itself is out of range.
        choices: the names, for an option that is not a number.
        by_variant: defaults that differ for single choices of the option ``variant``.
        whole: only whole numbers.
    """

    default: Value
    about: str
    low: float = 0.0
    high: float = 1.0
    low_open: bool = True
    high_open: bool = False
    choices: tuple[str, ...] = ()
    by_variant: Mapping[str, float] = field(default_factory=dict)
    whole: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values, for people: ``a number in (0, 100]``."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        left = "(" if self.low_open else "["
        right = ")" if self.high_open else "]"
        what = "a whole number" if self.whole else "a number"
        return f"{what} in {left}{self.low:g}, {self.high:g}{right}"

    def accepts(self, value: object) -> bool:
        """Whether ``value`` is allowed."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every entry of a catalogue says of itself.

    Attributes:
        name: in configurations and paths.
        title: in tables and messages; the name where none is given.
        paper: where it comes from.
        needs: what it must see besides updates.
        options: what can be set, by name.
    """

    name: str
    paper: str
    title: str = ""
    needs: Need = "nothing"
    options: Mapping[str, Option] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.name)

    def check_options(self, given: Mapping[str, object]) -> Options:
        """The complete options: the given ones checked, the others at their defaults.

        Raises:
            CatalogueError: an unknown option, or a value out of its range; the message has a line
                for each, with the key, the value and what is allowed.
        """
        problems = []
        for key, value in given.items():
            if key not in self.options:
                takes = ", ".join(self.options) or "none"
                problems.append(f"{key}: {self.name} has no such option; it takes {takes}")
            elif not self.options[key].accepts(value):
                problems.append(f"{key} = {value!r}: must be {self.options[key].allowed}")
        if problems:
            raise CatalogueError("\n".join(problems))
        variant = self.options.get("variant")
        chosen = str(given.get("variant", variant.default if variant else ""))
        defaults = {k: o.by_variant.get(chosen, o.default) for k, o in self.options.items()}
        return defaults | dict(given)


E = TypeVar("E", bound=Entry)


class Catalogue(Mapping[str, E], Generic[E]):
    """Entries by name, in the order in which they were added.

    Args:
        kind: what an entry is, for messages: ``merging method``.
        names: pattern that a name must match; names stand in paths and wildcards.
        reserved: names that mean something else.
    """

    def __init__(
        self,
        kind: str,
        *,
        names: str = r"[A-Za-z0-9][A-Za-z0-9+-]*",
        reserved: Iterable[str] = (),
    ) -> None:
        self.kind = kind
        self._names = re.compile(names)
        self._reserved = frozenset(reserved)
        self._entries: dict[str, E] = {}
        self._places: dict[str, tuple[str, int]] = {}

    def add(self, entry: E) -> E:
        """Add an entry.

        Raises:
            CatalogueError: the name is taken, reserved, or not fit for paths.
        """
        name = entry.name
        if not isinstance(name, str) or len(name) > 60 or not self._names.fullmatch(name):
            raise CatalogueError(
                f"{name!r} cannot be the name of a {self.kind}: it stands in paths and must match "
                f"{self._names.pattern}, with at most 60 characters"
            )
        # Two names that differ in case alone are one file on some systems.
        taken = {known.casefold() for known in (*self._entries, *self._reserved)}
        if name.casefold() in taken:
            raise CatalogueError(f"the name {name!r} of a {self.kind} is taken; choose another")
        self._entries[name] = entry
        self._places[name] = _place()
        return entry

    def place(self, name: str) -> tuple[str, int]:
        """The file and the line where an entry was added, for its code's digest.

        Raises:
            UnknownEntry: there is no such entry.
        """
        return self._places[self[name].name]

    def __getitem__(self, name: str) -> E:
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise UnknownEntry(self._unknown(name)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _unknown(self, name: object) -> str:
        known = {entry.casefold(): entry for entry in self._entries}
        close = difflib.get_close_matches(str(name).casefold(), known, n=1)
        hint = f". Did you mean {known[close[0]]}?" if close else ""
        return f"unknown {self.kind} {name!r}; known: {', '.join(self) or 'none'}{hint}"


def _place() -> tuple[str, int]:
    """The statement of a file's top level that is running."""
    frame = sys._getframe()
    while frame.f_code.co_name != "<module>" and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
