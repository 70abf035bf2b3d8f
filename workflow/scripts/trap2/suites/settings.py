"""What a suite and the workflow's configuration say, setting by setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trap2.merging.settings import Search
from trap2.protection.settings import WEIGHTINGS, Trap2Settings
from trap2.runtime.settings import setting
from trap2.suites.sibling_settings import Siblings
from trap2.training.settings import Optimisation
from trap2.updates.settings import AdapterSettings

FORMATS = {"lora": "LoRA adapters.", "full": "Whole checkpoints."}
"""The release formats of an update."""

FORMS: dict[str, dict[str, bool]] = {
    "LoRA": {"rslora": False, "dora": False},
    "rsLoRA": {"rslora": True, "dora": False},
    "DoRA": {"rslora": False, "dora": True},
}
"""The kinds of adapter that can be swept."""

MANY = 10**7

CHECKPOINTS = ("train", "released")


@dataclass(frozen=True)
class Data:
    """Where the images come from."""

    source: str = setting(
        "demo: embedded tasks that the workflow renders; catalogue: real datasets, downloaded.",
        choices=("demo", "catalogue"),
    )
    train: int | None = setting("Training images a task (demo).", None, at_least=10, at_most=MANY)
    val: int | None = setting("Validation images a task (demo).", None, at_least=10, at_most=MANY)
    test: int | None = setting("Test images a task (demo).", None, at_least=10, at_most=MANY)
    cars_train: str | None = setting(
        "What Cars trains on (catalogue): its training images (proper, the default), or all its "
        "test images as behind the published numbers (knots).",
        None,
        choices=("proper", "knots"),
    )


@dataclass(frozen=True)
class Pretraining:
    """Contrastive pretraining on the demo tasks' clean renderings."""

    images: int = setting("Images a task.", at_least=10, at_most=MANY)
    steps: int = setting("Optimiser steps.", at_least=1, at_most=10**8)
    batch_size: int = setting("Image-caption pairs a step.", 128, at_least=2, at_most=10**6)
    learning_rate: float = setting("AdamW's peak learning rate.", 0.001, above=0, at_most=1)


@dataclass(frozen=True)
class Normalisation:
    """How a model's input images are normalised."""

    mean: tuple[float, float, float] = setting(
        "Mean of each channel of images in 0 … 1.", at_least=0, at_most=1
    )
    std: tuple[float, float, float] = setting(
        "Standard deviation of each channel.", above=0, at_most=1
    )


@dataclass(frozen=True)
class Backbone:
    """One backbone; its name stands in paths and tables."""

    architecture: str | Mapping[str, Any] = setting(
        "An open_clip model name or an open_clip model configuration."
    )
    resolution: int = setting("Edge of the input images in pixels.", at_least=8, at_most=8192)
    pretrained: str | None = setting(
        "The weights of a published CLIP - a tag that open_clip lists for the architecture or a "
        "local .safetensors file (catalogue).",
        None,
        shortest=1,
    )
    normalisation: Normalisation | None = setting(
        "How the images of a local file's weights are normalised; CLIP's constants by default "
        "(catalogue). A tag has its own, which are followed.",
        None,
    )
    recompute: bool | None = setting(
        "Keep only the blocks' inputs for the backward pass and compute the blocks again there; "
        "less memory for a third more time.",
        None,
    )
    pretraining: Pretraining | None = setting(
        "Contrastive pretraining on the demo tasks' clean renderings.", None
    )


@dataclass(frozen=True)
class ReleaseFormat:
    """How the updates of one release format are made."""

    lambdas: tuple[float, ...] = setting(
        "Values of λ to train; validation picks one per task.", least=1, above=0, at_most=100
    )
    backbones: tuple[str, ...] | None = setting(
        "Backbones trained in this release format; names from `backbones`, all of them by default.",
        None,
        least=1,
    )
    task_lambdas: Mapping[str, tuple[float, ...]] = setting(
        "λ grids of single tasks, in place of `lambdas`.", {}, least=0, above=0, at_most=100
    )
    on_request: bool = setting(
        "Train this format only when a table that shows it is named (results/table3.csv), and keep "
        "it out of cells.csv.",
        False,
    )
    optimisation: Optimisation = setting(
        "How updates are optimised (AdamW, linear warm-up, cosine).", Optimisation
    )
    adapter: AdapterSettings | None = setting(
        "The LoRA adapter's form; whole checkpoints have none.", None
    )


@dataclass(frozen=True)
class DataMerging:
    """Merging with a sample of every task's validation images."""

    samples: int = setting("Images a task.", 100, at_least=1, at_most=MANY)
    samplings: tuple[str, ...] = setting(
        "How they are drawn.",
        ("random", "class-stratified"),
        least=1,
        choices=("random", "class-stratified"),
    )
    methods: Mapping[str, Mapping[str, Any]] = setting(
        "The methods that see a sample (docs/merging.md) with their options.",
        {"RegMean": {}, "CoM": {}},
        least=1,
    )


@dataclass(frozen=True)
class Merging:
    """What is merged, and how."""

    methods: Mapping[str, tuple[str, ...]] = setting(
        "Merging methods and the spaces that each runs in.", least=1
    )
    protections: tuple[str, ...] | None = setting(
        "Which protections are merged, where they are compared at all; all of them by default.",
        None,
    )
    options: Mapping[str, Mapping[str, Any]] = setting("Options of single methods, by method.", {})
    search: Search = setting(
        "Search of the merging coefficient on validation (Appendix D.6).", Search
    )
    data: DataMerging = setting(
        "Merging with a sample of every task's validation images (Appendix D.6, Tables 5 and 11).",
        DataMerging,
    )


@dataclass(frozen=True)
class Swept:
    """The values of the settings that are swept."""

    lambda_: tuple[float, ...] | None = setting(
        "Values of λ.", None, key="lambda", least=1, above=0, at_most=100
    )
    weighting: tuple[str, ...] | None = setting("w(s) of Eq. 8.", None, least=1, choices=WEIGHTINGS)
    range: tuple[tuple[float, float], ...] | None = setting(
        "Pairs of the smallest and the largest off-nominal scale.",
        None,
        least=1,
        above=0,
        at_most=1000,
    )
    delta: tuple[float, ...] | None = setting(
        "Margins around s = 1.", None, least=1, above=0, below=1
    )
    rank: tuple[int, ...] | None = setting(
        "LoRA ranks r, with α = r.", None, least=1, at_least=1, at_most=65_536
    )
    adapter: tuple[str, ...] | None = setting(
        "Kinds of adapter.", None, least=1, choices=tuple(FORMS)
    )


@dataclass(frozen=True)
class Ablations:
    """Sweeps of one setting at a time."""

    lambda_: float = setting(
        "λ in all sweeps but that of λ.", 0.05, key="lambda", above=0, at_most=100
    )
    tasks: tuple[str, ...] | None = setting(
        "The tasks that are protected; figures.task by default.", None, least=1
    )
    settings: Swept = setting(
        "The settings to sweep and their values; the suite's own value belongs among them.", Swept
    )


@dataclass(frozen=True)
class Figures:
    """What the figures show."""

    task: str = setting("The task of Figure 2 and the protected one of Figure 3.")
    backbone: str = setting("The backbone of all figures and of Table 6.")
    curvature_images: int = setting(
        "Test images a task on which the theorems' curvatures are measured.",
        100,
        at_least=2,
        at_most=MANY,
    )


@dataclass(frozen=True)
class Threats:
    """Who merges a protected update anyway (docs/threats.md)."""

    attacks: tuple[str, ...] | None = setting(
        "The attacks that are tried; all that apply by default.", None, least=1
    )
    protections: tuple[str, ...] | None = setting(
        "The protections that are attacked, those of `protections` by default; others are made "
        "for it.",
        None,
    )
    release_formats: tuple[str, ...] | None = setting(
        "The release formats that are attacked; all of the suite's by default.", None, least=1
    )
    backbones: tuple[str, ...] | None = setting(
        "The backbones on which updates are attacked; figures.backbone by default.", None, least=1
    )
    options: Mapping[str, Mapping[str, Any]] = setting("Options of single attacks, by attack.", {})
    seeds: int = setting(
        "Repetitions of attacks that draw at random, each with a seed of its own.",
        3,
        at_least=1,
        at_most=100,
    )
    curve_seeds: int = setting(
        "Of these, those that make every point of an attack's curve; the others make its last.",
        100,
        at_least=1,
        at_most=100,
    )


@dataclass(frozen=True)
class Suite:
    """One experiment - tasks, backbones, release formats, protection and merging."""

    description: str = setting("What the suite is for; one sentence.")
    data: Data = setting("Where the images come from.")
    tasks: tuple[str, ...] = setting("Tasks to fine-tune on and to merge.", least=2)
    backbones: Mapping[str, Backbone] = setting(
        "CLIP models by name.", least=1, names="^[A-Za-z0-9_-]+$"
    )
    release_formats: Mapping[str, ReleaseFormat] = setting(
        "Release formats of an update, adapters (lora) and whole checkpoints (full).",
        least=1,
        names=FORMATS,
    )
    trap2: Trap2Settings = setting("The TRAP² objective (Eq. 8, 9) and the choice of λ.")
    merging: Merging = setting("Searches and merges.")
    figures: Figures = setting("What the figures show.")
    logit_scale: float = setting(
        "Factor on the cosines in the training loss.", 100, above=0, at_most=10_000
    )
    protections: tuple[str, ...] = setting(
        "Protections to compare with the unprotected update: trap2, its variants that know attacks "
        "(trap2-layers, trap2-mixed), and post-hoc defenses, of adapters (params-adapter, "
        "params-refit, mergelock-adapter, mergelock-refit) and of whole checkpoints (params, "
        "mergelock, mergeguard-stage2, mergebarrier-attention); trained too are mergeguard-stage1, "
        "of adapters mergeguard-refit and of whole checkpoints mergeguard and arf. They are left "
        "out where a release or a backbone without attention has no use for them.",
        ("trap2",),
    )
    protection_options: Mapping[str, Mapping[str, Any]] = setting(
        "Options of protections other than TRAP², by protection; docs/extending.md.", {}
    )
    ablations: Ablations = setting(
        "Sweeps of one setting at a time, trained on the figures' backbone on request.", Ablations
    )
    threats: Threats | None = setting(
        "Who merges a protected update anyway, on request: attacks on every protection.", None
    )
    siblings: Siblings | None = setting(
        "The protocols of the papers of Merge-Lock and of MergeGuard, on request.", None
    )

    def backbones_in(self, release_format: str) -> tuple[str, ...]:
        """The backbones trained in a release format; none where the suite has no such format."""
        settings = self.release_formats.get(release_format)
        if settings is None:
            return ()
        return settings.backbones or tuple(self.backbones)


@dataclass(frozen=True)
class Config:
    """Which suite runs, where its checkpoints come from, and on what device."""

    suite: str = setting(
        "The suite whose artifacts `results/*.csv` are; a file of config/suites without its ending."
    )
    seed: int = setting(
        "Seeds every random draw of every job, together with the job's name.",
        0,
        at_least=0,
        at_most=2**63 - 1,
    )
    checkpoints: str = setting(
        "Where bases, heads and updates come from. `released` reads them from data/ (dvc pull), "
        "trains nothing and puts its results under reproduced/.",
        "train",
        choices=CHECKPOINTS,
    )
    bundle: tuple[str, ...] = setting(
        "The release formats whose updates `snakemake release` copies into data/.",
        ("lora",),
        choices=tuple(FORMATS),
    )
    seeds: tuple[int, ...] | None = setting(
        "Several seeds; every table then has means and standard deviations over them.",
        None,
        least=2,
        at_least=0,
        at_most=2**63 - 1,
    )
    protections: tuple[str, ...] | None = setting(
        "What is compared, in place of the suite's own `protections`; `make all-artifacts` adds "
        "the post-hoc defenses so.",
        None,
    )
    device: str = setting(
        "Where models run. `auto` takes a GPU where there is one, else the CPU.",
        "auto",
        choices=("auto", "cpu", "cuda"),
    )
    resources: str = setting(
        "Folder of downloads (datasets, pretrained weights); they are kept for all suites.",
        "resources",
        shortest=1,
    )
    archives: str | None = setting(
        "Folder with the datasets' files as downloaded elsewhere, `{task}/{file}` or `{file}`; "
        "nothing is fetched then.",
        None,
        shortest=1,
    )
    mirror: str | None = setting(
        "Base URL in place of the catalogue's, for files `{mirror}/{task}/{file}`.",
        None,
        pattern="^https?://",
    )
    plugins: tuple[str, ...] = setting(
        "Python files that add methods, protections, families or readers (docs/extending.md). They "
        "are executed.",
        (),
        shortest=1,
    )
    catalogue: str | None = setting(
        "A file of datasets' rows of one's own: a row of a name that the project's catalogue has "
        "replaces that row, others are added (docs/extending.md).",
        None,
        shortest=1,
    )
    sources: Mapping[str, str] = setting(
        "Which of a dataset's sources to use, by task; the catalogue's first by default.", {}
    )
