# What every stage needs: the checked configuration, names of files, and who depends on what.

import sys
from pathlib import Path

from trap2.data import catalogue
from trap2.models.families import family_of
from trap2.protection import catalogue as protections
from trap2.protection.catalogue import not_applicable
from trap2.runtime import cluster, code_digest, failures
from trap2.runtime.files import FileError
from trap2.runtime.schema import ConfigurationError
from trap2.suites import ablations, artifacts, bundle, checks, load, paper
from trap2.suites.suite import lambdas_of, merged_protections_of
from trap2.suites import suite as suite_settings

code_digest.lend_to_jobs()
SUITES = ROOT / "config" / "suites"
_suites = {}


def suite_of(wildcards):
    """The settings of the suite that a job belongs to, checked once; demo@2 is the demo."""
    name = wildcards if isinstance(wildcards, str) else wildcards.suite
    name = name.partition("@")[0]
    if name not in _suites:
        try:
            _suites[name] = load.load_suite(
                name, SUITES, config.get("catalogue"), config.get("protections")
            )
            if workflow.is_main_process:
                checks.check_merging(name, _suites[name])
        except ConfigurationError as error:
            sys.exit(str(error))
    return _suites[name]


try:
    config = load.check_config(config, SUITES)
except ConfigurationError as error:
    sys.exit(str(error))
suite_of(config["suite"])
RELEASED = config["checkpoints"] == "released"
if RELEASED:
    try:
        reason = bundle.not_applicable(config["suite"], suite_of(config["suite"]), config["seed"])
    except FileError as error:
        sys.exit(str(error))
    if reason is not None:
        sys.exit(reason)
DATASETS = catalogue.load_rows(config.get("catalogue"))


def suites_from(source):
    """A pattern of the suites whose data comes from one source."""
    names = "|".join(load.suites_from(source, SUITES))
    return f"({names})(@\\d+)?" if names else "(?!)"


def seed_of(wildcards):
    """The seed of a job: that in its suite's name (demo@2), else the configured one."""
    seed = wildcards.suite.partition("@")[2]
    return int(seed) if seed else config["seed"]


def replicas(suite):
    """A suite's folder for each seed; the configured seed's has the suite's own name."""
    seeds = config.get("seeds", [config["seed"]])
    return [suite if seed == config["seed"] else f"{suite}@{seed}" for seed in seeds]


wildcard_constraints:
    # results/published/ holds the paper's own tables.
    # A suite with another seed than the configured one is suite@seed.
    suite=r"(?!published\b)[a-z0-9-]+(@\d+)?",
    backbone=r"[A-Za-z0-9_-]+",
    release_format=r"lora|full",
    task=r"[A-Za-z0-9_]+",
    resolution=r"\d+",
    lambda_text=r"\d+\.\d+|\d+e-\d+|\d+\.\d+e-\d+",
    protection=r"[a-z0-9-]+",
    protected=r"[A-Za-z0-9_]+",
    setting="|".join(ablations.SETTINGS),
    value=r"[A-Za-z0-9.-]+",


def default_releases(suite):
    """The release formats of a run that names none; the others are made when a table needs them."""
    releases = suite_of(suite)["release_formats"]
    return [name for name in releases if not releases[name]["on_request"]]


DEFAULT_ARTIFACTS = artifacts.plain_names(default_releases(config["suite"]))
UPDATE_FILES = {
    "lora": ["adapter_model.safetensors", "adapter_config.json", "update.json"],
    "full": ["model.safetensors", "update.json"],
}


def code(*scripts):
    """A digest of scripts or modules and of the library behind them: a parameter that reruns a rule.

    With released checkpoints, the bundle's content counts as well.
    """
    folder = ROOT / "workflow" / "scripts"
    digest = "-".join(code_digest.code_digest(folder / script) for script in scripts)
    return f"{digest}-{bundle.digest(config['suite'])}" if RELEASED else digest


def sized(demo, catalogue):
    """A job's memory (MB) or minutes: few for the demo's data and networks, more in each attempt."""

    def value(wildcards, attempt):
        source = suite_of(wildcards)["data"]["source"]
        return attempt * (demo if source == "demo" else catalogue)

    return value


def prepared(suite, backbone, task, splits):
    """The prepared files of a task at a backbone's resolution, the manifest last."""
    resolution = suite_of(suite)["backbones"][backbone]["resolution"]
    folder = f"results/{suite}/data/{task}/{resolution}"
    arrays = [f"{folder}/{split}.{kind}.npy" for split in splits for kind in ("images", "labels")]
    return [*arrays, f"{folder}/manifest.json"]


def all_prepared(wildcards, splits):
    """The prepared files of all tasks."""
    w = wildcards
    tasks = suite_of(w)["tasks"]
    return [file for task in tasks for file in prepared(w.suite, w.backbone, task, splits)]


def model_settings(wildcards, *further):
    """What a job needs to know of its backbone."""
    settings = suite_of(wildcards)["backbones"][wildcards.backbone]
    return {key: settings[key] for key in ("architecture", *further) if key in settings}


def dataset_row(task):
    """A dataset's row of the catalogue with the one source that is used."""
    row = DATASETS[task]
    name = config["sources"].get(task, next(iter(row["sources"])))
    return row | {"sources": {name: row["sources"][name]}}


def raw_dataset(wildcards):
    """The mark of a complete download; the demo needs none."""
    if suite_of(wildcards)["data"]["source"] == "demo":
        return []
    return [f"{config['resources']}/datasets/{wildcards.task}/source.json"]


def preparation_settings(wildcards):
    """What a task's arrays depend on besides seed and resolution."""
    data = suite_of(wildcards)["data"]
    if data["source"] == "demo":
        return data
    row = dataset_row(wildcards.task)
    settings = {"source": "catalogue", "dataset": row}
    if row["split"].get("knots_trains_on_test"):
        settings["cars_train"] = data.get("cars_train", "proper")
    return settings


def from_bundle(path):
    """The released counterpart, in data/, of a file of results/."""
    try:
        return bundle.released_file(path)
    except FileError as error:
        sys.exit(str(error))


def stored(path):
    """Where a model, head, update or record is read from: made by this run, or released.

    A post-hoc protection trains nothing, so what the bundle has not of it is made here.
    """
    if not RELEASED or (defended(path) and not bundle.holds(path)):
        return path
    # dvc gives files new times: what the bundle holds is in code(), not its times.
    return ancient(from_bundle(path))


def defended(path):
    """Whether a file belongs to an update with a post-hoc protection."""
    return Path(path).parent.name in protections.post_hoc_protections()


def model(wildcards):
    """The base's vision tower W0."""
    return stored(f"results/{wildcards.suite}/{wildcards.backbone}/tower.safetensors")


def head(wildcards, task=None):
    """The zero-shot head of a job's task."""
    folder = f"results/{wildcards.suite}/{wildcards.backbone}/heads"
    return stored(f"{folder}/{task or wildcards.task}.safetensors")


def heads(wildcards):
    """The zero-shot heads of all tasks of a backbone."""
    return [head(wildcards, task) for task in suite_of(wildcards)["tasks"]]


def update_files(wildcards, task, protection):
    """The files of one update in the release format of a job."""
    w = wildcards
    folder = f"results/{w.suite}/{w.backbone}/{w.release_format}/{task}/{protection}"
    return [stored(f"{folder}/{name}") for name in UPDATE_FILES[w.release_format]]


def adapter_of(wildcards, task, protection):
    """The files of one adapter, for jobs that know no other release format."""
    folder = f"results/{wildcards.suite}/{wildcards.backbone}/lora/{task}/{protection}"
    return [stored(f"{folder}/{name}") for name in UPDATE_FILES["lora"]]


def adapter_files(wildcards, protection):
    """The files of all tasks' adapters with one protection, task by task."""
    tasks = suite_of(wildcards)["tasks"]
    return [file for task in tasks for file in adapter_of(wildcards, task, protection)]


def adapter_records(wildcards, protection):
    """The records (update.json) of all tasks' adapters with one protection, task by task."""
    tasks = suite_of(wildcards)["tasks"]
    return [adapter_of(wildcards, task, protection)[-1] for task in tasks]


def update_records(wildcards, protection):
    """The records (update.json) of one protection, task by task."""
    return [update_files(wildcards, task, protection)[-1] for task in suite_of(wildcards)["tasks"]]


def release_cells(suite, release_format):
    """Every (method, space) of a suite; whole checkpoints are merged in Full space only."""
    methods = suite_of(suite)["merging"]["methods"]
    return [
        (method, space)
        for method, spaces in methods.items()
        for space in spaces
        if release_format == "lora" or space == "Full"
    ]


def merged_tasks(suite, protection):
    """The tasks that are protected in turn; nothing is protected in the unprotected merge."""
    return ["none"] if protection == "unprotected" else suite_of(suite)["tasks"]


def backbones_of(suite, release_format):
    """The backbones that a suite trains, or finds released, in a release format."""
    if RELEASED and release_format not in bundle.release_formats(suite):
        return []
    return suite_of(suite)["release_formats"].get(release_format, {"backbones": []})["backbones"]


def protections_of(suite, release_format, backbone):
    """What is compared on a backbone in a release format, the unprotected update first."""
    return suite_settings.protections_of(suite_of(suite), release_format, backbone)


def updates_of(protection, release_format, below=""):
    """The pattern of a release format's updates with some protections: their files."""
    folder = "results/{suite}/{backbone}/{{release_format,%s}}/{{task}}/{{protection,%s}}"
    return expand(
        folder % (release_format, "|".join(protection) or "(?!)") + below + "/{name}",
        name=UPDATE_FILES[release_format],
        allow_missing=True,
    )


def update_to_protect(wildcards):
    """The unprotected update's files; a backbone that the protection cannot act on ends the run."""
    architecture = suite_of(wildcards)["backbones"][wildcards.backbone]["architecture"]
    reason = not_applicable(wildcards.protection, wildcards.release_format, family_of(architecture))
    if reason is not None:
        sys.exit(f"not applicable to {wildcards.backbone}: {reason}")
    return update_files(wildcards, wildcards.task, "unprotected")


def training_settings(wildcards):
    """How an update is trained, without the λ grid: a changed grid reruns no other training."""
    settings = suite_of(wildcards)["release_formats"][wildcards.release_format]
    return {key: settings[key] for key in ("optimisation", "adapter") if key in settings}


def objective_settings(wildcards, protection="trap2"):
    """A trained protection's options, without the rule that chooses λ afterwards."""
    suite = suite_of(wildcards)
    if protection != "trap2":
        return suite["protection_options"].get(protection, {})
    return {key: value for key, value in suite["trap2"].items() if key != "tolerance"}


def lambda_candidates(wildcards):
    """The updates of a task with a trained protection, one for each λ of its grid: their files."""
    w = wildcards
    return [
        file
        for text in lambdas_of(suite_of(w), w.release_format, w.task)
        for file in update_files(w, w.task, f"{w.protection}/lambda~{text}")
    ]


def evaluation_batch_size(wildcards):
    """Images a forward pass of an evaluation; a job without a release format has adapters."""
    settings = suite_of(wildcards)["release_formats"][wildcards.get("release_format", "lora")]
    return settings["optimisation"].get("evaluation_batch_size", 256)


def merges(suite, release_format, backbones=None):
    """All merge files of a suite and release format, on all its backbones or on some."""
    return [
        f"results/{suite}/{backbone}/{release_format}/merges/{protection}/{protected}.json"
        for backbone in (backbones_of(suite, release_format) if backbones is None else backbones)
        for protection in merged_protections_of(suite_of(suite), release_format, backbone)
        for protected in merged_tasks(suite, protection)
    ]


def records(suite, release_format, protections=None):
    """The records of a suite's and release format's updates, of all protections or of some."""
    return [
        stored(f"results/{suite}/{backbone}/{release_format}/{task}/{protection}/update.json")
        for backbone in backbones_of(suite, release_format)
        for protection in protections or protections_of(suite, release_format, backbone)
        for task in suite_of(suite)["tasks"]
    ]


def zero_shot_records(suite, release_format):
    """The zero-shot scores that go with a suite's updates."""
    return [
        stored(f"results/{suite}/{backbone}/heads/{task}.json")
        for backbone in backbones_of(suite, release_format)
        for task in suite_of(suite)["tasks"]
    ]


def released_checkpoints(suite):
    """What `snakemake release` copies into the bundle: bases, heads and the formats' updates."""
    formats = [
        release_format
        for release_format in config["bundle"]
        if release_format in suite_of(suite)["release_formats"]
    ]
    folder = f"results/{suite}"
    models = [
        file
        for backbone in suite_of(suite)["backbones"]
        for file in (
            f"{folder}/{backbone}/tower.safetensors",
            f"{folder}/{backbone}/base.json",
            *(
                f"{folder}/{backbone}/heads/{task}.{ending}"
                for task in suite_of(suite)["tasks"]
                for ending in ("safetensors", "json")
            ),
        )
    ]
    updates = [
        str(Path(record).parent / name)
        for release_format in formats
        for record in records(suite, release_format)
        for name in UPDATE_FILES[release_format]
    ]
    return models + updates


def split_files(suite):
    """The split indices of all tasks of a suite, at each of its resolutions."""
    resolutions = {b["resolution"] for b in suite_of(suite)["backbones"].values()}
    return [
        f"results/{suite}/data/{task}/{resolution}/splits.json"
        for task in suite_of(suite)["tasks"]
        for resolution in sorted(resolutions)
    ]


def released_splits(suite):
    """The released counterparts of :func:`split_files`."""
    places = (Path(path).parts[-3:-1] for path in split_files(suite))
    return [
        from_bundle(f"results/{suite}/splits/{task}-{resolution}.json")
        for task, resolution in places
    ]


REFERENCE_TABLES = ("table1.csv", "table2.csv", "cells.csv")


def reference_tables(suite):
    """The tables that came with the released checkpoints."""
    return [from_bundle(f"results/{suite}/reference/{name}") for name in REFERENCE_TABLES]
