"""Sweeps of one setting at a time: which updates they train, and what those are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Suite = Mapping[str, Any]


SETTINGS: dict[str, str] = {
    "lambda": "λ",
    "weighting": "w(s)",
    "range": "Range of s",
    "delta": "Margin δ",
    "rank": "LoRA rank r",
    "adapter": "Adapter",
}
"""The settings that can be swept, with the axis labels of their figures."""


FORMS: dict[str, dict[str, bool]] = {
    "LoRA": {"rslora": False, "dora": False},
    "rsLoRA": {"rslora": True, "dora": False},
    "DoRA": {"rslora": False, "dora": True},
}
"""The kinds of adapter that can be swept."""


@dataclass(frozen=True)
class Variant:
    """One value of a sweep.

    Attributes:
        label: the value as figures print it.
        lambda_: λ.
        trap2: what differs from the suite's objective.
        adapter: what differs from the suite's adapter.
    """

    label: str
    lambda_: float
    trap2: Mapping[str, Any] = field(default_factory=dict)
    adapter: Mapping[str, Any] = field(default_factory=dict)


def variants(suite: Suite, setting: str) -> dict[str, Variant]:
    """The values of a sweep, in the configured order, by the text that stands in paths.

    Args:
        suite: its settings.
        setting: a key of :data:`SETTINGS`.
    """
    settings = suite["ablations"]
    lambda_ = settings["lambda"]
    found: dict[str, Variant] = {}
    for value in settings["settings"].get(setting, []):
        if setting == "lambda":
            found[repr(float(value))] = Variant(f"{value:g}", float(value))
        elif setting == "weighting":
            found[_path_text(value)] = Variant(value, lambda_, {"weighting": value})
        elif setting == "range":
            low, high = map(float, value)
            changed = {"s_min": low, "s_max": high}
            found[f"{low!r}-{high!r}"] = Variant(f"[{low:g}, {high:g}]", lambda_, changed)
        elif setting == "delta":
            changed = {"delta": float(value)}
            found[repr(float(value))] = Variant(f"{value:g}", lambda_, changed)
        elif setting == "rank":
            # α = r keeps the nominal scale at 1 (Appendix D.3).
            found[str(value)] = Variant(str(value), lambda_, {}, {"rank": value, "alpha": value})
        else:
            found[value.lower()] = Variant(value, lambda_, {}, FORMS[value])
    return found


def is_own(suite: Suite, variant: Variant) -> bool:
    """Whether a variant's objective and adapter are the suite's own, whatever its λ."""
    trap2 = suite["trap2"]
    adapter = FORMS["LoRA"] | suite["release_formats"]["lora"].get("adapter", {})
    found: bool = (
        trap2 | dict(variant.trap2) == trap2 and adapter | dict(variant.adapter) == adapter
    )
    return found


def ablated_tasks(suite: Suite) -> list[str]:
    """The tasks on which the sweeps are trained; the figures' task by default."""
    found: list[str] = suite["ablations"].get("tasks", [suite["figures"]["task"]])
    return found


def _path_text(weighting: str) -> str:
    """w(s) as it stands in paths: 1-over-sqrt-s."""
    return weighting.replace("/", "-over-").replace("(", "-").rstrip(")")
