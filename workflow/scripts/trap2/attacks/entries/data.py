"""Attacks with data: images of the tasks, with labels or without, and training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from trap2.attacks.attack import ATTACKS, POINTS, THEN, Attack, Run
from trap2.merging.catalogue import METHODS
from trap2.runtime.catalogue import Option, Options

if TYPE_CHECKING:
    from trap2.attacks.stage import Merge, Stage


def _distillation(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.distillation import distillation

    return distillation(stage, options)


def _supervised(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.supervised import supervised

    return supervised(stage, options)


def _merged(method: str, size: int) -> Run:
    def run(stage: Stage, options: Options) -> Iterator[Merge]:
        from trap2.attacks.merges_with_data import merge_with_data

        return merge_with_data(stage, method, options, size=size)

    return run


def _images(default: int) -> Option:
    return Option(default, "images of a task at the last point", high=1_000_000, whole=True)


_TRAINING = {
    "points": POINTS,
    "steps": Option(400, "steps of AdamW at the last point", high=1e8, whole=True),
    "batch_size": Option(32, "images a step", high=1e6, whole=True),
    "learning_rate": Option(3e-4, "AdamW's peak, of adapters"),
    "full_learning_rate": Option(1e-4, "AdamW's peak, of whole checkpoints"),
}


def _options_of(method: str, images: int, **defaults: int | str) -> dict[str, Option]:
    own = {
        key: replace(option, default=defaults.get(key, option.default))
        for key, option in METHODS[method].options.items()
    }
    return {"images": _images(images), "points": POINTS} | own


ATTACKS.add(
    Attack(
        name="distillation",
        title="Distilled anew",
        paper="ours",
        group="data",
        knowledge="protected",
        needs="sample",
        random=True,
        run=_distillation,
        options={"images": _images(400), "then": THEN} | _TRAINING,
    )
)
ATTACKS.add(
    Attack(
        name="sft",
        title="SFT",
        paper="the project page's Table 5; its settings are ours",
        group="data",
        needs="labels",
        random=True,
        run=_supervised,
        options={"images": _images(64)} | _TRAINING,
    )
)
ATTACKS.add(
    Attack(
        name="prodistill",
        title="ProDistill",
        paper="Xu et al., 2025, arXiv:2502.12706",
        group="data",
        needs="sample",
        random=True,
        run=_merged("ProDistill", 128),
        methods=("ProDistill",),
        options=_options_of("ProDistill", 64),
    )
)
ATTACKS.add(
    Attack(
        name="regmean",
        title="RegMean",
        paper="Jin et al., 2023, arXiv:2212.09849",
        group="data",
        needs="sample",
        release_formats=("lora",),
        random=True,
        run=_merged("RegMean", 50),
        methods=("RegMean",),
        options=_options_of("RegMean", 100),
    )
)
ATTACKS.add(
    Attack(
        name="com",
        title="Chain of Merges",
        paper="Buzzega et al., 2025, arXiv:2508.21421",
        group="data",
        needs="sample",
        release_formats=("lora",),
        random=True,
        run=_merged("CoM", 50),
        methods=("CoM",),
        options=_options_of("CoM", 100),
    )
)
ATTACKS.add(
    Attack(
        name="adamerging-task",
        title="AdaMerging, task",
        paper="Yang et al., 2024, arXiv:2310.02575",
        group="data",
        needs="sample",
        random=True,
        run=_merged("AdaMerging-task", 16),
        methods=("AdaMerging-task",),
        options=_options_of("AdaMerging-task", 64, batches=2, order="shuffled"),
    )
)
ATTACKS.add(
    Attack(
        name="adamerging-layer",
        title="AdaMerging, layer",
        paper="Yang et al., 2024, arXiv:2310.02575",
        group="data",
        needs="sample",
        random=True,
        run=_merged("AdaMerging-layer", 16),
        methods=("AdaMerging-layer",),
        options=_options_of("AdaMerging-layer", 64, batches=2, order="shuffled"),
    )
)
ATTACKS.add(
    Attack(
        name="adamerging-layer-plusplus",
        title="AdaMerging++, layer",
        paper="Yang et al., 2024, arXiv:2310.02575",
        group="data",
        needs="sample",
        random=True,
        run=_merged("AdaMerging-layer++", 16),
        methods=("AdaMerging-layer++",),
        options=_options_of("AdaMerging-layer++", 64, batches=2, order="shuffled"),
    )
)
