"""The merging methods by name: who proposed each, what it needs, and which options it takes.

Free of heavy imports: a method imports what it computes with when it runs.  Adding one is one
function and one entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trap2.runtime.catalogue import Catalogue, Entry, Option, Options

if TYPE_CHECKING:
    from torch import Tensor

    from trap2.merging.regression import DataMerge
    from trap2.merging.sample import Sample
    from trap2.merging.spaces import EncodedLayer
    from trap2.updates.delta import Update

Layers = Callable[[], "Iterator[tuple[str, EncodedLayer]]"]
"""Every layer's name with the tasks' updates encoded in a space, anew at each call."""

LayerFunction = Callable[["EncodedLayer", Options], "Tensor"]
"""From one encoded layer and complete options to its merged ΔW, decoded by the caller."""

MergeFunction = Callable[[Layers, Options, int], "Iterator[tuple[str, Tensor]]"]
"""From all layers, complete options and a seed to every layer's merged ΔW, decoded."""

DataFunction = Callable[["Sample", "Sequence[Update]", Options], "DataMerge"]
"""From a sample of the tasks' images, one update a task and complete options to the merge."""

ALL_SPACES = ("Full", "KnOTS", "Core")


@dataclass(frozen=True, kw_only=True)
class Method(Entry):
    """A merging method, with exactly one of the three functions.

    Attributes:
        spaces: the spaces that it runs in; only Full where the space makes no difference.
        layer: merges one layer at a time, without randomness.
        layers: merges all layers, with a seed.
        with_data: merges what it is given with a sample of every task (``needs="sample"``).
    """

    spaces: tuple[str, ...] = ("Full",)
    layer: LayerFunction | None = None
    layers: MergeFunction | None = None
    with_data: DataFunction | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [f for f in (self.layer, self.layers, self.with_data) if f is not None]
        if len(given) != 1 or (self.with_data is None) != (self.needs == "nothing"):
            raise TypeError(
                f"{self.name}: give one of layer, layers and with_data, the last with what it needs"
            )

    def merge(self, layers: Layers, options: Options, seed: int) -> Iterator[tuple[str, Tensor]]:
        """Every layer's merged ΔW, by a method that needs no data."""
        if self.layers is not None:
            yield from self.layers(layers, options, seed)
            return
        assert self.layer is not None, f"{self.name} needs data"
        for name, encoded in layers():
            yield name, encoded.decode(self.layer(encoded, options))


METHODS: Catalogue[Method] = Catalogue("merging method")


def check_options(method: str, options: Mapping[str, object]) -> Options:
    """The complete options of a method: the given ones checked, the others at their defaults.

    Args:
        method: its name.
        options: option to value.

    Raises:
        CatalogueError: an unknown method or option, or a value out of its range.
    """
    return METHODS[method].check_options(options)


SAMPLING_LETTERS = {"random": "R", "class-stratified": "C"}


def data_column(method: str, sampling: str) -> str:
    """A merge with data as the paper's Table 5 names it: ``RegMean (R)``."""
    return f"{method} ({SAMPLING_LETTERS[sampling]})"


def _weight_averaging(layer: EncodedLayer, _options: Options) -> Tensor:
    return layer.total() / len(layer.tasks)


def _task_arithmetic(layer: EncodedLayer, _options: Options) -> Tensor:
    return layer.total()


def _dare(layers: Layers, options: Options, seed: int) -> Iterator[tuple[str, Tensor]]:
    from trap2.merging.methods import dare

    return dare(layers, options, seed)


def _ties(layers: Layers, options: Options, seed: int) -> Iterator[tuple[str, Tensor]]:
    from trap2.merging.methods import ties

    return ties(layers, options, seed)


def _tsv(layer: EncodedLayer, options: Options) -> Tensor:
    from trap2.merging.methods import tsv

    return tsv(layer, options)


def _cart(layer: EncodedLayer, options: Options) -> Tensor:
    from trap2.merging.methods import cart

    return cart(layer, options)


def _regmean(sample: Sample, updates: Sequence[Update], options: Options) -> DataMerge:
    from trap2.merging.regression import merge_sample

    return merge_sample(sample, updates, options, chain=False, weighting="equal")


def _chain_of_merges(sample: Sample, updates: Sequence[Update], options: Options) -> DataMerge:
    # Chain of Merges chooses weights (Section 6.4): the tasks' shares of the Gram matrices' traces.
    from trap2.merging.regression import merge_sample

    return merge_sample(sample, updates, options, chain=True, weighting="trace")


def _adamerging(*, layerwise: bool, plusplus: bool = False) -> DataFunction:
    def merge(sample: Sample, updates: Sequence[Update], options: Options) -> DataMerge:
        from trap2.merging.adamerging import merge_sample

        return merge_sample(sample, updates, options, layerwise=layerwise, plusplus=plusplus)

    return merge


def _prodistill(sample: Sample, updates: Sequence[Update], options: Options) -> DataMerge:
    from trap2.merging.prodistill import merge_sample

    return merge_sample(sample, updates, options)


_KEEP = Option(30.0, "percent of each task's entries that trimming keeps", high=100.0)

_DROP = Option(1e-5, "probability of dropping an entry", low_open=False, high_open=True)

_TIES_VARIANT = Option(
    "trap2",
    "trap2: trim each matrix to int(d·keep/100)+1 entries; ties: the whole update at once; "
    "peft: each matrix to int(d·keep/100)",
    choices=("trap2", "ties", "peft"),
)

_OFF_DIAGONAL = Option(
    1.0, "factor on the Gram matrices' off-diagonal entries (RegMean's α)", low_open=False
)

_ADAMERGING = {
    "coefficient": Option(0.3, "λ of every task, and layer, at the start", low_open=False),
    "iterations": Option(500, "steps of Adam", low=0, high=100_000, low_open=False, whole=True),
    "learning_rate": Option(1e-3, "Adam's"),
    "batches": Option(
        1,
        "batches of each task a step; 2 in the authors' code",
        high=100,
        whole=True,
    ),
    "order": Option(
        "given",
        "the sample's batches one after another, or each step the first ones of a new shuffle, as "
        "in the authors' code",
        choices=("given", "shuffled"),
    ),
}

_ADAMERGING_PLUSPLUS = _ADAMERGING | {
    "keep": Option(20.0, "percent of each whole update's entries that trimming keeps", high=100.0)
}

METHODS.add(
    Method(name="WA", paper="Wortsman et al., 2022, arXiv:2203.05482", layer=_weight_averaging)
)
METHODS.add(
    Method(name="TA", paper="Ilharco et al., 2023, arXiv:2212.04089", layer=_task_arithmetic)
)
METHODS.add(
    Method(
        name="TIES",
        paper="Yadav et al., 2023, arXiv:2306.01708",
        spaces=ALL_SPACES,
        layers=_ties,
        options={"keep": _KEEP, "variant": _TIES_VARIANT},
    )
)
METHODS.add(
    Method(
        name="DARE",
        paper="Yu et al., 2024, arXiv:2311.03099",
        spaces=ALL_SPACES,
        layers=_dare,
        options={"drop": _DROP},
    )
)
METHODS.add(
    Method(
        name="TIES+DARE",
        paper="Yu et al., 2024, arXiv:2311.03099",
        spaces=ALL_SPACES,
        layers=_ties,
        options={"drop": _DROP, "keep": _KEEP, "variant": _TIES_VARIANT},
    )
)
METHODS.add(
    Method(
        name="TSV",
        paper="Gargiulo et al., 2025, arXiv:2412.00081",
        spaces=ALL_SPACES,
        layer=_tsv,
        options={
            "variant": Option(
                "rank",
                "rank: the code of the TRAP² paper, each task cut at its numerical rank; "
                "trap2: that code, null-space directions included; paper: QR and projection",
                choices=("rank", "trap2", "paper"),
            )
        },
    )
)
METHODS.add(
    Method(
        name="CART",
        paper="Choi et al., 2025, arXiv:2412.12153",
        spaces=ALL_SPACES,
        layer=_cart,
        options={
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
    )
)
METHODS.add(
    Method(
        name="RegMean",
        paper="Jin et al., 2023, arXiv:2212.09849",
        needs="sample",
        with_data=_regmean,
        options={"off_diagonal": _OFF_DIAGONAL},
    )
)
METHODS.add(
    Method(
        name="CoM",
        paper="Buzzega et al., 2025, arXiv:2508.21421",
        needs="sample",
        with_data=_chain_of_merges,
        options={"off_diagonal": _OFF_DIAGONAL},
    )
)
METHODS.add(
    Method(
        name="AdaMerging-task",
        paper="Yang et al., 2024, arXiv:2310.02575",
        needs="sample",
        with_data=_adamerging(layerwise=False),
        options=_ADAMERGING,
    )
)
METHODS.add(
    Method(
        name="AdaMerging-layer",
        paper="Yang et al., 2024, arXiv:2310.02575",
        needs="sample",
        with_data=_adamerging(layerwise=True),
        options=_ADAMERGING,
    )
)
METHODS.add(
    Method(
        name="AdaMerging-task++",
        paper="Yang et al., 2024, arXiv:2310.02575",
        needs="sample",
        with_data=_adamerging(layerwise=False, plusplus=True),
        options=_ADAMERGING_PLUSPLUS,
    )
)
METHODS.add(
    Method(
        name="AdaMerging-layer++",
        paper="Yang et al., 2024, arXiv:2310.02575",
        needs="sample",
        with_data=_adamerging(layerwise=True, plusplus=True),
        options=_ADAMERGING_PLUSPLUS,
    )
)
METHODS.add(
    Method(
        name="ProDistill",
        paper="Xu et al., 2025, arXiv:2502.12706",
        needs="sample",
        with_data=_prodistill,
        options={
            "granularity": Option(
                "elementwise",
                "what has an α of its own: an entry, a tensor, or a block",
                choices=("elementwise", "layer", "task"),
            ),
            "coefficient": Option(
                0.3, "every α at the start, and of what is outside the blocks", low_open=False
            ),
            "learning_rate": Option(0.01, "Adam's"),
            "epochs": Option(
                100,
                "passes over the sample, a block",
                low=0,
                high=100_000,
                low_open=False,
                whole=True,
            ),
            "batch_size": Option(128, "images a step, of all tasks together", high=1e6, whole=True),
        },
    )
)

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


def data_free_methods() -> list[str]:
    """The methods that merge updates alone."""
    return [name for name, method in METHODS.items() if method.needs == "nothing"]


def data_methods() -> list[str]:
    """The methods that see a sample of every task."""
    return [name for name, method in METHODS.items() if method.needs == "sample"]
