"""The code behind a job, as a parameter of its rule: an edit reruns what uses it, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from trap2.attacks.catalogue import ATTACKS
from trap2.evaluation.treatments import TREATMENTS
from trap2.merging.catalogue import METHODS
from trap2.models.families import FAMILIES, family_of
from trap2.protection.catalogue import PROTECTIONS
from trap2.runtime.catalogue import Catalogue
from trap2.runtime.code_digest import code_digest, entry_digest
from trap2.suites import bundle, siblings, threats
from trap2.suites.files import Suites, Wildcards
from trap2.suites.settings import Config, Suite

Entry = tuple[Catalogue[Any], str]
"""An entry of a catalogue by its name."""

Value = Callable[[Wildcards], str]

Cells = Callable[[Wildcards], Iterable[tuple[str, str]]]

Attacked = Callable[[Wildcards], Iterable[tuple[str, int]]]

Siblings = Callable[[Wildcards], Iterable[siblings.Cell]]


class Codes:
    """Digests of scripts with the library behind them.

    Args:
        scripts: the folder of the workflow's scripts.
        suites: gives a suite's settings.
        config: the workflow's checked configuration.
    """

    def __init__(self, scripts: Path, suites: Suites, config: Config) -> None:
        self.scripts = scripts
        self.suites = suites
        self.config = config
        # A dry run of the paper's suite asks three hundred times for two dozen.
        self._script = cache(lambda script: code_digest(scripts / script))
        self._entry = cache(lambda place: entry_digest(*place))

    def __call__(self, *scripts: str, entries: Iterable[Entry] = ()) -> str:
        """The digest of scripts or modules, of the library behind them and of entries.

        With released checkpoints, the bundle's content counts as well.

        Args:
            scripts: names in the folder of scripts.
            entries: those of the catalogues' that the job uses.
        """
        digests = [self._script(script) for script in scripts]
        digests += [self._of(entry) for entry in entries]
        if self.config.checkpoints == "released":
            digests.append(bundle.digest(self.config.suite))
        return "-".join(digests)

    def model(self, script: str) -> Value:
        """A script that asks for the family of its backbone."""
        return lambda w: self(script, entries=[self._family(w)])

    def protecting(self, script: str) -> Value:
        """A script that trains with the protection of its job, or applies it."""
        return lambda w: self(script, entries=[self._family(w), (PROTECTIONS, w.protection)])

    def methods(self, cells: Cells) -> Callable[[Wildcards], dict[str, str]]:
        """The digests of the merging methods of a job's cells."""
        return lambda w: {name: self._of((METHODS, name)) for name, _ in cells(w)}

    def attacks(self, cells: Attacked) -> Callable[[Wildcards], dict[str, str]]:
        """The digests of the attacks of a job's cells, and of merging methods that they run."""
        return lambda w: {name: self._attack(name) for name, _ in cells(w)}

    def sibling_cells(self, cells: Siblings) -> Callable[[Wildcards], dict[str, str]]:
        """The digests of the merging methods and attacks of a job's cells, by name."""

        def of(w: Wildcards) -> dict[str, str]:
            entries = siblings.entries_of(self.suites(w.suite), list(cells(w)))
            return {name: self._of(entry) for name, entry in entries.items()}

        return of

    def task_arithmetic(self, script: str) -> Value:
        """A script that adds updates of its backbone's model up."""
        return lambda w: self(script, entries=[self._family(w), (METHODS, "TA")])

    def treatments(self, script: str) -> Value:
        """A script that handles updates in every way that the catalogue has."""
        entries = [(TREATMENTS, name) for name in TREATMENTS]
        return lambda w: self(script, entries=[self._family(w), *entries])

    def titled(self, script: str) -> str:
        """A script that calls the configured suite's protections by their titles."""
        names = self.suites(self.config.suite).protections
        return self(script, entries=[(PROTECTIONS, name) for name in names])

    def attacked(self, script: str) -> Value:
        """A script that calls a suite's attacks and what they attack by their titles."""

        def of(w: Wildcards) -> str:
            suite, places = self._attacked(w)
            cells = [cell for place in places for cell in threats.attack_cells(suite, *place)]
            attacks = sorted({name for name, _ in cells})
            entries = [(ATTACKS, name) for name in attacks]
            return self(script, entries=[*self._protections(suite, places), *entries])

        return of

    def siblings(self, script: str) -> Value:
        """A script that calls the protections of the sibling papers' protocols by their titles."""

        def of(w: Wildcards) -> str:
            suite = self.suites(w.suite)
            places = siblings.sibling_backbones(suite)
            found = {
                name for place in places for name in siblings.sibling_protections(suite, place)
            }
            return self(
                script, entries=[(PROTECTIONS, n) for n in sorted(found) if n in PROTECTIONS]
            )

        return of

    def handled(self, script: str) -> Value:
        """A script that calls treatments and what they are of by their titles."""
        entries = [(TREATMENTS, name) for name in TREATMENTS]
        return lambda w: self(script, entries=[*self._protections(*self._attacked(w)), *entries])

    def _attacked(self, w: Wildcards) -> tuple[Suite, list[tuple[str, str]]]:
        """A suite with the release formats and backbones on which updates are attacked."""
        suite = self.suites(w.suite)
        return suite, [
            (release_format, backbone)
            for release_format in threats.attacked_formats(suite)
            for backbone in threats.attacked_backbones(suite, release_format)
        ]

    def _protections(self, suite: Suite, places: Iterable[tuple[str, str]]) -> list[Entry]:
        found = {name for place in places for name in threats.attacked_protections(suite, *place)}
        return [(PROTECTIONS, name) for name in sorted(found) if name in PROTECTIONS]

    def _family(self, w: Wildcards) -> Entry:
        backbone = self.suites(w.suite).backbones[w.backbone]
        return FAMILIES, family_of(backbone.architecture)

    def _attack(self, name: str) -> str:
        methods = ATTACKS[name].methods
        entries: list[Entry] = [(ATTACKS, name), *((METHODS, method) for method in methods)]
        return "-".join(self._of(entry) for entry in entries)

    def _of(self, entry: Entry) -> str:
        catalogue, name = entry
        return self._entry(catalogue.place(name))
