"""The names of the files behind the threats: attacks, what they are measured against, handling."""

from __future__ import annotations

import sys
from pathlib import Path

from trap2.protection.catalogue import trained_protections
from trap2.suites import bundle
from trap2.suites.files import Files, Wildcards
from trap2.suites.threats import attacked_backbones, attacked_formats, attacked_protections

Attacked = tuple[str, str, str]
"""A backbone, a release format and a protection."""

_CALLED = {"lora": "adapters", "full": "whole checkpoints"}


class ThreatFiles:
    """The names of what the tables and figures of attacks and of handling are made from.

    From released checkpoints, updates that the bundle lacks are left out: nothing is trained.

    Args:
        files: the names of the run's files.
    """

    def __init__(self, files: Files) -> None:
        self.files = files

    def attacks(self, w: Wildcards) -> list[str]:
        """The attacks on every protection and task, the unprotected control among them."""
        return self._attacks(w.suite, self._attacked(w.suite))

    def merges(self, w: Wildcards) -> list[str]:
        """The unprotected merges that attacks are measured against."""
        if "Full" not in self.files.suites(w.suite).merging.methods.get("TA", ()):
            sys.exit(
                "attacks are measured against the unprotected merge by TA in Full space, which the "
                f"suite '{w.suite}' does not make; add Full to merging.methods.TA"
            )
        places = dict.fromkeys(place[:2] for place in self._attacked(w.suite))
        return [f"{self._folder(w.suite, *place)}/merges/unprotected/none.json" for place in places]

    def heads(self, w: Wildcards) -> list[str]:
        """The records of the zero-shot heads of the attacked backbones."""
        return self._heads(w.suite, self._attacked(w.suite))

    def handling(self, w: Wildcards) -> list[str]:
        """What ordinary use does to every protection's updates."""
        return [
            f"{self._folder(w.suite, backbone, release_format)}/handling/{protection}.json"
            for backbone, release_format, protection in self._attacked(w.suite)
        ]

    def recovery(self, w: Wildcards) -> dict[str, list[str]]:
        """The records behind the recovery table: merges with data, attacks, zero-shot scores."""
        shown = [
            place
            for place in self._attacked(w.suite)
            if place[1] == "lora" and place[2] in {"unprotected", "trap2"}
        ]
        tasks = self.files.suites(w.suite).tasks
        merges = [
            f"{self._folder(w.suite, backbone, 'lora')}/data_merges/{protection}/{task}.json"
            for backbone, _, protection in shown
            for task in (["none"] if protection == "unprotected" else tasks)
        ]
        heads = self._heads(w.suite, shown)
        return {"merges": merges, "attacks": self._attacks(w.suite, shown), "heads": heads}

    def left_out(self, w: Wildcards) -> list[str]:
        """What is not attacked because the released checkpoints lack it, a note each."""
        if not self.files.released:
            return []
        missing: dict[tuple[str, str], list[str]] = {}
        for backbone, release_format, protection in self._configured(w.suite):
            if not self._is_there(w.suite, backbone, release_format, protection):
                missing.setdefault((release_format, backbone), []).append(protection)
        what = "; ".join(
            f"{_CALLED[release_format]} of {backbone} ({', '.join(names)})"
            for (release_format, backbone), names in missing.items()
        )
        return [f"Left out, not among the released checkpoints: {what}."] if missing else []

    def _configured(self, suite: str) -> list[Attacked]:
        settings = self.files.suites(suite)
        return [
            (backbone, release_format, protection)
            for release_format in attacked_formats(settings)
            for backbone in attacked_backbones(settings, release_format)
            for protection in attacked_protections(settings, release_format, backbone)
        ]

    def _attacked(self, suite: str) -> list[Attacked]:
        return [place for place in self._configured(suite) if self._is_there(suite, *place)]

    def _is_there(self, suite: str, backbone: str, release_format: str, protection: str) -> bool:
        """Whether the updates can be had: trained here, released, or made from what is released."""
        if not self.files.released:
            return True
        if backbone not in self.files.backbones(suite, release_format):
            return False
        if protection not in {"unprotected", *trained_protections()}:
            protection = "unprotected"
        folder = self._folder(suite, backbone, release_format)
        tasks = self.files.suites(suite).tasks
        return all(bundle.holds(f"{folder}/{task}/{protection}/update.json") for task in tasks)

    def _attacks(self, suite: str, attacked: list[Attacked]) -> list[str]:
        return [
            f"{self._folder(suite, backbone, release_format)}/attacks/{protection}/{task}.json"
            for backbone, release_format, protection in attacked
            for task in self.files.suites(suite).tasks
        ]

    def _heads(self, suite: str, attacked: list[Attacked]) -> list[str]:
        return [
            self.files.stored(f"{self.files.root}/{suite}/{backbone}/heads/{task}.json")
            for backbone in dict.fromkeys(place[0] for place in attacked)
            for task in self.files.suites(suite).tasks
        ]

    def _folder(self, suite: str, backbone: str, release_format: str) -> str:
        return str(Path(self.files.root) / suite / backbone / release_format)
