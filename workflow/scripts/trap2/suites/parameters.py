"""What a job is told of the configuration: the leaves that it needs, and no others.

A changed setting reruns the jobs that are told of it.  A rule's parameter is a method of
:class:`Parameters`, or what a method returns that wants more than a job's wildcards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from trap2.data.readers import READERS, Reader
from trap2.models.families import family_of
from trap2.protection.catalogue import PROTECTIONS
from trap2.protection.settings import Trap2Settings
from trap2.runtime.catalogue import Catalogue
from trap2.runtime.settings import plain
from trap2.suites import ablations, artifacts, paper, siblings, threats
from trap2.suites.files import Suites, Wildcards
from trap2.suites.settings import Config
from trap2.updates.settings import AdapterSettings

Leaf = Mapping[str, Any]
"""A part of the configuration as a job gets it."""


class Parameters:
    """What the jobs of a run are told.

    Args:
        suites: gives a suite's settings.
        config: the workflow's checked configuration.
        datasets: the catalogue's rows, by task.
    """

    def __init__(self, suites: Suites, config: Config, datasets: Mapping[str, Leaf]) -> None:
        self.suites = suites
        self.config = config
        self.datasets = datasets

    def seed(self, w: Wildcards) -> int:
        """The seed of a job: that in its suite's name (demo@2), else the configured one."""
        seed = w.suite.partition("@")[2]
        return int(seed) if seed else self.config.seed

    def seeds(self, w: Wildcards) -> list[int]:
        """All seeds of the run, where it has several."""
        return list(self.config.seeds or ())

    def tasks(self, w: Wildcards) -> list[str]:
        """The tasks of a suite."""
        return list(self.suites(w.suite).tasks)

    def logit_scale(self, w: Wildcards) -> float:
        """The factor on the cosines in the training loss."""
        return self.suites(w.suite).logit_scale

    def backbone(self, *further: str) -> Callable[[Wildcards], Leaf]:
        """The architecture of a job's backbone, and further settings of it that are set."""

        def of(w: Wildcards) -> Leaf:
            settings = plain(self.suites(w.suite).backbones[w.backbone])
            return {key: settings[key] for key in ("architecture", *further) if key in settings}

        return of

    def dataset(self, w: Wildcards) -> Leaf:
        """A dataset's row of the catalogue with the one source that is used."""
        row = self.datasets[w.task]
        name = self.config.sources.get(w.task, next(iter(row["sources"])))
        return {**row, "sources": {name: row["sources"][name]}}

    def sources(self, w: Wildcards) -> Leaf:
        """The source that a dataset is downloaded from."""
        found: Leaf = self.dataset(w)["sources"]
        return found

    def data(self, w: Wildcards) -> Leaf:
        """What a task's arrays depend on besides seed and resolution."""
        data = self.suites(w.suite).data
        if data.source == "demo":
            return _leaf(data)
        row = self.dataset(w)
        settings = {"source": "catalogue", "dataset": row}
        if row["split"].get("knots_trains_on_test"):
            settings["cars_train"] = data.cars_train or "proper"
        return settings

    def readers(self, w: Wildcards) -> list[tuple[Catalogue[Reader], str]]:
        """The reader of a job's dataset, as an entry of its catalogue; the demo has none."""
        if self.source(w) == "demo":
            return []
        return [(READERS, source["reader"]) for source in self.sources(w).values()]

    def source(self, w: Wildcards) -> str:
        """Where a suite's images come from, ``demo`` or ``catalogue``."""
        return self.suites(w.suite).data.source

    def preparation_threads(self, w: Wildcards) -> int:
        """Processors that decode images side by side; the arrays do not depend on how many."""
        return 1 if self.source(w) == "demo" else 4

    def has_published_numbers(self, w: Wildcards) -> bool:
        """Whether the paper's numbers are of a suite's datasets; another one has a pattern."""
        return self.source(w) == "catalogue"

    def sized(self, demo: int, catalogue: int) -> Callable[[Wildcards, int], int]:
        """Memory (MB) or minutes: few for the demo's data and networks, more in each attempt."""

        def of(wildcards: Wildcards, attempt: int) -> int:
            return attempt * (demo if self.source(wildcards) == "demo" else catalogue)

        return of

    def protect_minutes(self, wildcards: Wildcards, attempt: int) -> int:
        """Minutes of a post-hoc protection; many for one that measures every tensor."""
        measuring = PROTECTIONS[wildcards.protection].needs == "labels"
        return self.sized(10, 480 if measuring else 20)(wildcards, attempt)

    def training(self, w: Wildcards) -> Leaf:
        """How an update is trained, without the λ grid: a changed grid reruns no other training."""
        settings = plain(self.suites(w.suite).release_formats[w.release_format])
        return {key: settings[key] for key in ("optimisation", "adapter") if key in settings}

    def objective(self, w: Wildcards) -> Leaf:
        """TRAP²'s settings, without the rule that chooses λ afterwards."""
        return _objective(self.suites(w.suite).trap2)

    def protection_options(self, w: Wildcards) -> Leaf:
        """The options of a job's protection."""
        if w.protection == "trap2":
            return self.objective(w)
        return _leaf(self.suites(w.suite).protection_options.get(w.protection, {}))

    def tolerance(self, w: Wildcards) -> float:
        """The relative loss of accuracy (percent) up to which a larger λ is chosen."""
        return self.suites(w.suite).trap2.tolerance

    def batch_size(self, w: Wildcards) -> int:
        """Images a forward pass of an evaluation.

        A job without a release format has adapters, or is of all formats: the first one's count.
        """
        formats = self.suites(w.suite).release_formats
        first = "lora" if "lora" in formats else next(iter(formats))
        settings = formats[w.get("release_format", first)]
        return settings.optimisation.evaluation_batch_size

    def cells(self, w: Wildcards) -> list[tuple[str, str]]:
        """Every (method, space) or (method, sampling) of a job.

        Whole checkpoints are merged in Full space only.
        """
        if w.merges == "data_merges":
            data = self.suites(w.suite).merging.data
            return [(m, sampling) for m in data.methods for sampling in data.samplings]
        return self._cells(w.suite, w.release_format)

    def merging(self, w: Wildcards) -> Leaf:
        """The methods' options, and the search of the coefficient or the size of the samples."""
        merging = self.suites(w.suite).merging
        if w.merges == "data_merges":
            return _leaf({"options": merging.data.methods, "samples": merging.data.samples})
        return _leaf({"options": merging.options, "search": merging.search})

    def extraction_rank(self, w: Wildcards) -> int:
        """The rank at which whole checkpoints are extracted: that of the suite's adapters."""
        formats = self.suites(w.suite).release_formats
        adapter = formats["lora"].adapter if "lora" in formats else None
        return (adapter or AdapterSettings()).rank

    def attack_cells(self, w: Wildcards) -> list[tuple[str, int]]:
        """Every (attack, attack seed) of a job."""
        return threats.attack_cells(self.suites(w.suite), w.release_format, w.backbone)

    def curve_seeds(self, w: Wildcards) -> int:
        """How many seeds of an attack make every point of its curve."""
        return threats.threats_of(self.suites(w.suite)).curve_seeds

    def attack_options(self, w: Wildcards) -> Leaf:
        """The options of a job's attacks."""
        given = threats.threats_of(self.suites(w.suite)).options
        names = {name for name, _ in self.attack_cells(w)}
        return _leaf({name: options for name, options in given.items() if name in names})

    def search(self, w: Wildcards) -> Leaf:
        """The search of the coefficient."""
        return _leaf(self.suites(w.suite).merging.search)

    def sibling_cells(self, w: Wildcards) -> list[siblings.Cell]:
        """The cells of a job of the sibling papers' protocols."""
        return siblings.sibling_cells(self.suites(w.suite), w.backbone, w.protection, w.protected)

    def sibling_plan(self, w: Wildcards) -> Leaf:
        """Coefficients, images and options of these cells."""
        suite = self.suites(w.suite)
        return _leaf(siblings.plan_of(suite, self.sibling_cells(w)))

    def table(self, w: Wildcards) -> Leaf:
        """What a table must know of its suite, and nothing that it need not."""
        known = {"tasks": self.tasks, "columns": self.columns}
        kind = paper.KINDS[self.table_kind(w)]
        return {name: known[name](w) for name in kind.settings}

    def columns(self, w: Wildcards) -> list[str]:
        """The columns of a table of merges: methods with their spaces, or with their samplings."""
        table = paper.TABLES[int(w.number)]
        if table.with_data:
            return artifacts.data_columns(self.suites(w.suite))
        return [f"{m}-{space}" for m, space in self._cells(w.suite, table.release_format)]

    def table_kind(self, w: Wildcards) -> str:
        """The layout of a table."""
        return paper.TABLES[int(w.number)].kind

    def figure(self, w: Wildcards) -> Leaf:
        """What a figure must know of its suite, and nothing that it need not."""
        return artifacts.figure_settings(self.suites(w.suite), int(w.number))

    def curvature_images(self, w: Wildcards) -> int:
        """Images a task on which curvatures are measured."""
        return self.suites(w.suite).figures.curvature_images

    def families(self, w: Wildcards) -> dict[str, str]:
        """The family of each backbone."""
        backbones = self.suites(w.suite).backbones.items()
        return {name: family_of(settings.architecture) for name, settings in backbones}

    def variant(self, w: Wildcards) -> ablations.Variant:
        """The value of a sweep that a job trains; one that is not configured ends the run."""
        known = ablations.variants(self.suites(w.suite), w.setting)
        if w.value not in known:
            sys.exit(
                f"ablations.settings.{w.setting} of the suite '{w.suite}' has no value "
                f"'{w.value}'; it has {', '.join(known) or 'none'}"
            )
        return known[w.value]

    def ablated_lambda(self, w: Wildcards) -> float:
        """The λ of a value of a sweep."""
        return self.variant(w).lambda_

    def ablated_objective(self, w: Wildcards) -> Leaf:
        """The suite's objective, but for what a value of a sweep changes."""
        return _objective(self.variant(w).trap2)

    def ablated_training(self, w: Wildcards) -> Leaf:
        """The suite's training, but for what a value of a sweep changes."""
        optimisation = self.suites(w.suite).release_formats["lora"].optimisation
        return _leaf({"optimisation": optimisation, "adapter": self.variant(w).adapter})

    def ablated_values(self, w: Wildcards) -> list[str]:
        """The values of a sweep, once for every task that they are trained on."""
        suite = self.suites(w.suite)
        tasks = ablations.ablated_tasks(suite)
        return [value for value in ablations.variants(suite, w.setting) for _ in tasks]

    def ablated_labels(self, w: Wildcards) -> dict[str, str]:
        """The values of a sweep as figures print them."""
        known = ablations.variants(self.suites(w.suite), w.setting)
        return {value: variant.label for value, variant in known.items()}

    def bundle(self, w: Wildcards) -> Leaf:
        """The configuration that a released bundle is made with."""
        return _leaf({"suite": self.suites(self.config.suite), "seed": self.config.seed})

    def _cells(self, suite: str, release_format: str) -> list[tuple[str, str]]:
        return [
            (method, space)
            for method, spaces in self.suites(suite).merging.methods.items()
            for space in spaces
            if release_format == "lora" or space == "Full"
        ]


def _leaf(settings: object) -> Leaf:
    """Settings as Snakemake stores and compares them, and as records hold them: plain values."""
    found: Leaf = plain(settings)
    return found


def _objective(settings: Trap2Settings) -> Leaf:
    return {key: value for key, value in _leaf(settings).items() if key != "tolerance"}
