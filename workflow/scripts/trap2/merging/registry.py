"""The registry of merging methods: who proposed each, where it runs, and which options it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from trap2.merging import elementwise, spectral
from trap2.spaces import EncodedLayer

Tensor = torch.Tensor
Layers = Callable[[], Iterator[tuple[str, EncodedLayer]]]
Merged = Iterator[tuple[str, Tensor]]
MergeFunction = Callable[[Layers, Mapping[str, Any], int], Merged]

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


def _per_layer(function: Callable[[EncodedLayer, Mapping[str, Any]], Tensor]) -> MergeFunction:
    def merge(layers: Layers, options: Mapping[str, Any], _seed: int) -> Merged:
        for name, layer in layers():
            yield name, layer.decode(function(layer, options))

    return merge


def _weight_averaging(layer: EncodedLayer, _options: Mapping[str, Any]) -> Tensor:
    return layer.total() / len(layer.tasks)


def _task_arithmetic(layer: EncodedLayer, _options: Mapping[str, Any]) -> Tensor:
    return layer.total()


def _dropped_layers(
    layers: Layers, options: Mapping[str, Any], seed: int
) -> Iterator[tuple[str, EncodedLayer, Tensor]]:
    """Every layer with its dense tasks, after DARE where the method has ``drop``."""
    generator = torch.Generator().manual_seed(seed)
    for name, layer in layers():
        tasks = layer.dense()
        if "drop" in options:
            tasks = elementwise.dare(tasks, options["drop"], generator)
        yield name, layer, tasks


def _dare(layers: Layers, options: Mapping[str, Any], seed: int) -> Merged:
    for name, layer, tasks in _dropped_layers(layers, options, seed):
        yield name, layer.decode(tasks.sum(0))


def _ties(layers: Layers, options: Mapping[str, Any], seed: int) -> Merged:
    if options["variant"] == "ties":
        yield from _ties_whole_update(layers, options, seed)
        return
    one_more = options["variant"] != "peft"
    for name, layer, tasks in _dropped_layers(layers, options, seed):
        yield name, layer.decode(elementwise.ties(tasks, options["keep"], one_more=one_more))


def _ties_whole_update(layers: Layers, options: Mapping[str, Any], seed: int) -> Merged:
    def stacks() -> Iterator[Tensor]:
        return (tasks for _, _, tasks in _dropped_layers(layers, options, seed))

    thresholds = elementwise.whole_update_thresholds(stacks, options["keep"])
    balance = sum(
        float(elementwise.elected_signs(tasks, thresholds).sum(dtype=elementwise.SUM))
        for tasks in stacks()
    )
    majority = float(balance > 0) - float(balance < 0)
    for name, layer, tasks in _dropped_layers(layers, options, seed):
        signs = elementwise.elected_signs(tasks, thresholds)
        merged = elementwise.mean_of_agreeing(tasks, thresholds, signs, majority)
        yield name, layer.decode(merged)


def _tsv(layer: EncodedLayer, options: Mapping[str, Any]) -> Tensor:
    if len(layer.shape) < 2:
        return layer.total() / len(layer.tasks)
    rank = min(layer.shape) // len(layer.tasks)
    if options["variant"] == "trap2":
        return spectral.tsv(list(layer.dense()), rank, 0.0)
    reduced = layer.reduced()
    tolerance = max(layer.shape) * layer.eps
    operator = spectral.tsv_projected if options["variant"] == "paper" else spectral.tsv
    return reduced.expand(operator(reduced.cores, rank, tolerance))


def _cart(layer: EncodedLayer, options: Mapping[str, Any]) -> Tensor:
    add_mean = options["variant"] != "paper"
    if len(layer.shape) < 2:
        return layer.total() / len(layer.tasks) * add_mean
    size = options["rank_fraction"] * min(layer.shape)
    rank = max(1, int(size)) if options["variant"] == "cart" else math.ceil(size)
    reduced = layer.reduced()
    core = spectral.cart(
        reduced.stacked(), layer.centred_directions, rank, options["scale"], add_mean=add_mean
    )
    return reduced.expand(core)


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
