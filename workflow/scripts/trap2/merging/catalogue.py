"""The mergers by name: who proposed each, where it runs, and which options it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trap2.merging.methods import (
    MergeFunction,
    _cart,
    _dare,
    _per_layer,
    _task_arithmetic,
    _ties,
    _tsv,
    _weight_averaging,
)
from trap2.merging.regression import Weighting


@dataclass(frozen=True)
class DataMethod:
    """A merger with data.

    Attributes:
        paper: where it comes from.
        chain: recompute each layer's inputs with the merged layers below.
        weighting: how the tasks are weighted; Chain of Merges chooses weights (Section 6.4),
            which here are the tasks' shares of the Gram matrices' traces.
    """

    paper: str
    chain: bool
    weighting: Weighting


DATA_METHODS: dict[str, DataMethod] = {
    "RegMean": DataMethod("Jin et al., 2023, arXiv:2212.09849", False, "equal"),
    "CoM": DataMethod("Buzzega et al., 2025, arXiv:2508.21421", True, "trace"),
}

SAMPLING_LETTERS = {"random": "R", "class-stratified": "C"}


def data_column(method: str, sampling: str) -> str:
    """A merge with data as the paper's Table 5 names it: ``RegMean (R)``."""
    return f"{method} ({SAMPLING_LETTERS[sampling]})"


ALL_SPACES = ("Full", "KnOTS", "Core")


@dataclass(frozen=True)
class Option:
    """One option of a method: a number in a range, or one of some names.

    Attributes:
        default: used when the configuration does not say.
        about: what it is, with its unit.
        low, high: range of a number.
        low_open, high_open: whether the end itself is out of range.
        choices: the names, for an option that is not a number.
        by_variant: defaults that differ for single variants of the method.
    """

    default: float | str
    about: str
    low: float = 0.0
    high: float = 1.0
    low_open: bool = True
    high_open: bool = False
    choices: tuple[str, ...] = ()
    by_variant: Mapping[str, float] = field(default_factory=dict)

    @property
    def allowed(self) -> str:
        """The allowed values, for people."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        ends = "([)]"
        return (
            f"a number in {ends[not self.low_open]}{self.low:g}, {self.high:g}"
            + (ends[2 + (not self.high_open)])
        )

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` is allowed."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below


@dataclass(frozen=True)
class Method:
    """A merging method.

    Attributes:
        name: as in the paper's tables.
        paper: where it comes from.
        spaces: the spaces that it runs in; only Full where the space makes no difference.
        options: by name.
        merge: from the encoded layers, complete options and a seed to the merged M_i decoded,
            layer by layer.
    """

    name: str
    paper: str
    spaces: tuple[str, ...]
    merge: MergeFunction
    options: Mapping[str, Option] = field(default_factory=dict)


def check_options(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The complete options of a method: the given ones checked, the others at their defaults.

    Raises:
        ValueError: an unknown method or option, or a value out of its range; the message has a
            line for each, with the key, the value and what is allowed.
    """
    if method not in METHODS:
        raise ValueError(f"unknown merging method {method!r}; known: {', '.join(METHODS)}")
    known = METHODS[method].options
    problems = []
    for key, value in options.items():
        if key not in known:
            takes = ", ".join(known) or "none"
            problems.append(f"{key}: {method} has no such option; it takes {takes}")
        elif not known[key].accepts(value):
            problems.append(f"{key} = {value!r}: must be {known[key].allowed}")
    if problems:
        raise ValueError("\n".join(problems))
    variant = options.get("variant", known["variant"].default if "variant" in known else "")
    defaults = {k: o.by_variant.get(str(variant), o.default) for k, o in known.items()}
    return defaults | dict(options)


_KEEP = Option(30.0, "percent of each task's entries that trimming keeps", high=100.0)


_DROP = Option(1e-5, "probability of dropping an entry", low_open=False, high_open=True)


_TIES_VARIANT = Option(
    "trap2",
    "trap2: trim each matrix to int(d·keep/100)+1 entries; ties: the whole update at once; "
    "peft: each matrix to int(d·keep/100)",
    choices=("trap2", "ties", "peft"),
)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "WA",
            "Wortsman et al., 2022, arXiv:2203.05482",
            ("Full",),
            _per_layer(_weight_averaging),
        ),
        Method(
            "TA", "Ilharco et al., 2023, arXiv:2212.04089", ("Full",), _per_layer(_task_arithmetic)
        ),
        Method(
            "TIES",
            "Yadav et al., 2023, arXiv:2306.01708",
            ALL_SPACES,
            _ties,
            {"keep": _KEEP, "variant": _TIES_VARIANT},
        ),
        Method("DARE", "Yu et al., 2024, arXiv:2311.03099", ALL_SPACES, _dare, {"drop": _DROP}),
        Method(
            "TIES+DARE",
            "Yu et al., 2024, arXiv:2311.03099",
            ALL_SPACES,
            _ties,
            {"drop": _DROP, "keep": _KEEP, "variant": _TIES_VARIANT},
        ),
        Method(
            "TSV",
            "Gargiulo et al., 2025, arXiv:2412.00081",
            ALL_SPACES,
            _per_layer(_tsv),
            {
                "variant": Option(
                    "rank",
                    "rank: the code of the TRAP² paper, each task cut at its numerical rank; "
                    "trap2: that code, null-space directions included; paper: QR and projection",
                    choices=("rank", "trap2", "paper"),
                )
            },
        ),
        Method(
            "CART",
            "Choi et al., 2025, arXiv:2412.12153",
            ALL_SPACES,
            _per_layer(_cart),
            {
                "rank_fraction": Option(
                    0.04,
                    "rank kept of each deviation, as a fraction of the matrix's smaller side",
                    by_variant={"cart": 0.12},
                ),
                "scale": Option(
                    0.1,
                    "λ_c, weight of the deviations from the mean",
                    high=100.0,
                    by_variant={"cart": 2.0, "paper": 1.0},
                ),
                "variant": Option(
                    "trap2",
                    "trap2: k = ceil(f·min(d)), the mean added back; cart: k = max(1, int(f·"
                    "min(d))), its own defaults; paper: as trap2 without the mean",
                    choices=("trap2", "cart", "paper"),
                ),
            },
        ),
    )
}


PUBLISHED_OPTION_GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "TIES": {"keep": (100, 90, 80, 70, 60, 50, 40, 30, 20, 10)},
    "DARE": {"drop": (1e-5, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)},
    "TIES+DARE": {
        "drop": (1e-5, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99),
        "keep": (100, 90, 80, 70, 60, 50, 40, 30, 20, 10),
    },
    "CART": {"rank_fraction": (0.04, 0.08, 0.16, 0.32)},
}
"""Second hyperparameters that the published code searches, in its order, after s."""
