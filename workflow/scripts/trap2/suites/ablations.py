"""Sweeps of one setting at a time: which updates they train, and what those are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trap2.protection.settings import Trap2Settings
from trap2.runtime.settings import plain
from trap2.suites.settings import FORMS, Suite
from trap2.updates.settings import AdapterSettings

SETTINGS: dict[str, str] = {
    "lambda": "λ",
    "weighting": "w(s)",
    "range": "Range of s",
    "delta": "Margin δ",
    "rank": "LoRA rank r",
    "adapter": "Adapter",
}
"""The settings that can be swept, with the axis labels of their figures."""


@dataclass(frozen=True)
class Variant:
    """One value of a sweep.

    Attributes:
        label: the value as figures print it.
        lambda_: λ.
        trap2: the objective, the suite's own but for what the value changes.
        adapter: the adapter's form, likewise.
    """

    label: str
    lambda_: float
    trap2: Trap2Settings
    adapter: AdapterSettings


def swept(suite: Suite) -> Mapping[str, Sequence[Any]]:
    """The values of each setting that a suite sweeps, by keys of :data:`SETTINGS`."""
    found: Mapping[str, Sequence[Any]] = plain(suite.ablations.settings)
    return found


def variants(suite: Suite, setting: str) -> dict[str, Variant]:
    """The values of a sweep, in the configured order, by the text that stands in paths.

    Args:
        suite: its settings.
        setting: a key of :data:`SETTINGS`.
    """
    lambda_, trap2, adapter = suite.ablations.lambda_, suite.trap2, _own_adapter(suite)
    found: dict[str, Variant] = {}
    for value in swept(suite).get(setting, []):
        if setting == "lambda":
            found[repr(float(value))] = Variant(f"{value:g}", float(value), trap2, adapter)
        elif setting == "weighting":
            changed = replace(trap2, weighting=value)
            found[_path_text(value)] = Variant(value, lambda_, changed, adapter)
        elif setting == "range":
            low, high = map(float, value)
            changed = replace(trap2, s_min=low, s_max=high)
            found[f"{low!r}-{high!r}"] = Variant(f"[{low:g}, {high:g}]", lambda_, changed, adapter)
        elif setting == "delta":
            changed = replace(trap2, delta=float(value))
            found[repr(float(value))] = Variant(f"{value:g}", lambda_, changed, adapter)
        elif setting == "rank":
            # α = r keeps the nominal scale at 1 (Appendix D.3).
            form = replace(adapter, rank=value, alpha=value)
            found[str(value)] = Variant(str(value), lambda_, trap2, form)
        else:
            form = replace(adapter, **FORMS[value])
            found[value.lower()] = Variant(value, lambda_, trap2, form)
    return found


def is_own(suite: Suite, variant: Variant) -> bool:
    """Whether a variant's objective and adapter are the suite's own, whatever its λ."""
    return variant.trap2 == suite.trap2 and variant.adapter == _own_adapter(suite)


def ablated_tasks(suite: Suite) -> list[str]:
    """The tasks on which the sweeps are trained; the figures' task by default."""
    return list(suite.ablations.tasks or (suite.figures.task,))


def _own_adapter(suite: Suite) -> AdapterSettings:
    return suite.release_formats["lora"].adapter or AdapterSettings()


def _path_text(weighting: str) -> str:
    """w(s) as it stands in paths: 1-over-sqrt-s."""
    return weighting.replace("/", "-over-").replace("(", "-").rstrip(")")
