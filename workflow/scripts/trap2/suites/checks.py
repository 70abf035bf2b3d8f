"""Reading and checking the configuration, before any job runs.

Every problem is reported with its key, its value, what is allowed and how to mend it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from trap2.data.catalogue import load_catalogue
from trap2.data.readers import READERS
from trap2.merging.catalogue import METHODS, check_options, data_free_methods, data_methods
from trap2.merging.settings import grid_problem
from trap2.models.clip.architectures import (
    ArchitectureError,
    configuration,
    image_size,
    shipped,
)
from trap2.models.families import family_of
from trap2.protection.catalogue import PROTECTIONS, not_applicable
from trap2.protection.settings import range_problem
from trap2.runtime.catalogue import CatalogueError
from trap2.runtime.messages import choice, message
from trap2.runtime.schema import ConfigurationError
from trap2.suites.settings import Config, Suite
from trap2.suites.siblings import sibling_problems, siblings_of
from trap2.suites.threats import threat_problems, threats_of
from trap2.training.settings import Optimisation


def check_merging(name: str, suite: Suite) -> None:
    """Check the merging methods, their spaces and options against the registry of methods.

    Raises:
        ConfigurationError: an unknown method, space or option, or an option out of its range.
    """
    merging = suite.merging
    problems = []
    for method, spaces in merging.methods.items():
        if method not in METHODS or METHODS[method].needs != "nothing":
            known = sorted(data_free_methods())
            problems.append(choice("merging.methods", method, known, "a merging method"))
            continue
        for space in spaces:
            if space not in METHODS[method].spaces:
                allowed = list(METHODS[method].spaces)
                problems.append(
                    choice(
                        f"merging.methods.{method}", space, allowed, f"a merge space of {method}"
                    )
                )
    for method, options in merging.options.items():
        if method not in merging.methods:
            known = sorted(merging.methods)
            problems.append(choice("merging.options", method, known, "a method of this suite"))
        elif method in METHODS:
            problems += _option_problems("merging.options", method, options)
    for method, options in merging.data.methods.items():
        if method not in data_methods():
            what = "a merging method that sees a sample"
            problems.append(choice("merging.data.methods", method, data_methods(), what))
        else:
            problems += _option_problems("merging.data.methods", method, options)
    if problems:
        raise ConfigurationError(message(f"config/suites/{name}.yaml", problems))


def _option_problems(key: str, method: str, options: Mapping[str, object]) -> list[str]:
    try:
        check_options(method, options)
    except CatalogueError as error:
        return [f"{key}.{method}: {line}" for line in str(error).splitlines()]
    return []


def _download_problems(config: Config) -> Iterator[str]:
    archives = config.archives
    if archives is not None and not os.path.isdir(archives):
        yield f"archives is '{archives}'; there is no such folder. Make it, or remove the key"
    if archives is not None and config.mirror is not None:
        yield "archives and mirror are both set, and only one can serve. Remove one of them"
    try:
        known = load_catalogue(config.catalogue)
    except ValueError as error:
        yield f"catalogue: {error}"
        return
    for task, source in config.sources.items():
        if task not in known:
            yield choice("sources", task, sorted(known), "a dataset of the catalogue")
        elif source not in known[task].sources:
            allowed = list(known[task].sources)
            yield choice(f"sources.{task}", source, allowed, f"a source of {task}")


def _suite_problems(suite: Suite, catalogue: str | Path | None) -> Iterator[str]:
    if suite.data.source == "demo":
        yield from _demo_problems(suite)
    else:
        yield from _catalogue_problems(suite, catalogue)
    yield from _backbone_problems(suite)
    yield from _release_problems(suite)
    yield from _protection_problems(suite)
    yield from _protection_option_problems(suite)
    trap2 = suite.trap2
    problem = range_problem(trap2.s_min, trap2.s_max, trap2.delta, "trap2.")
    if problem is not None:
        yield problem
    search = suite.merging.search
    problem = grid_problem(search.step, search.maximum, "merging.search.")
    if problem is not None:
        yield problem
    yield from _ablation_problems(suite)
    yield from threat_problems(suite)
    yield from sibling_problems(suite)
    figures = suite.figures
    if figures.task not in suite.tasks:
        yield choice("figures.task", figures.task, list(suite.tasks), "a task of this suite")
    if figures.backbone not in suite.backbones:
        known = list(suite.backbones)
        yield choice("figures.backbone", figures.backbone, known, "a backbone of this suite")


def _ablation_problems(suite: Suite) -> Iterator[str]:
    """Every variant must be an objective that can be trained."""
    settings, trap2 = suite.ablations, suite.trap2
    for task in settings.tasks or ():
        if task not in suite.tasks:
            yield choice("ablations.tasks", task, list(suite.tasks), "a task of this suite")
    for low, high in settings.settings.range or ():
        if range_problem(low, high, trap2.delta):
            yield (
                f"ablations.settings.range has [{low}, {high}]; it must reach below 1 - "
                f"trap2.delta = {1 - trap2.delta:g} and above 1 + trap2.delta = "
                f"{1 + trap2.delta:g}"
            )
    for delta in settings.settings.delta or ():
        if range_problem(trap2.s_min, trap2.s_max, delta):
            yield (
                f"ablations.settings.delta has {delta}; 1 - δ and 1 + δ must lie between "
                f"trap2.s_min = {trap2.s_min} and trap2.s_max = {trap2.s_max}"
            )


def _demo_problems(suite: Suite) -> Iterator[str]:
    from trap2.data.demo.tasks import TASKS

    for task in suite.tasks:
        if task not in TASKS:
            yield choice("tasks", task, sorted(TASKS), "a task of the demo")
    for key in ("train", "val", "test"):
        if getattr(suite.data, key) is None:
            yield f"data.{key} is missing; give the number of images a task"
    for name, backbone in suite.backbones.items():
        if backbone.pretraining is None:
            yield f"backbones.{name}.pretraining is missing; give its images and steps"
        if backbone.pretrained is not None:
            yield (
                f"backbones.{name}.pretrained is '{backbone.pretrained}'; the demo pretrains "
                "its own base model. Remove the key"
            )
        if backbone.normalisation is not None:
            yield (
                f"backbones.{name}.normalisation is set; the demo's base takes its images as CLIP "
                "does. Remove the key"
            )
    if suite.data.cars_train is not None:
        yield "data.cars_train is set; the demo has no Cars. Remove the key"


def _catalogue_problems(suite: Suite, catalogue: str | Path | None) -> Iterator[str]:
    known = load_catalogue(catalogue)
    for task in suite.tasks:
        if task not in known:
            yield choice("tasks", task, sorted(known), "a dataset of the catalogue")
            continue
        for source in known[task].sources.values():
            if source.reader not in READERS:
                where = f"catalogue: {task}.sources.{source.name}.reader"
                yield choice(where, source.reader, list(READERS), "a reader (plugins add some)")
    for key in ("train", "val", "test"):
        if getattr(suite.data, key) is not None:
            yield f"data.{key} is set; a real dataset's own split decides. Remove the key"
    for name, backbone in suite.backbones.items():
        where = f"backbones.{name}"
        if backbone.pretraining is not None:
            yield f"{where}.pretraining is set; only the demo pretrains. Remove the key"
        pretrained = backbone.pretrained
        if pretrained is None:
            yield (
                f"{where}.pretrained is missing; give a tag that open_clip lists for the "
                "architecture, or a local .safetensors file"
            )
        elif pretrained.endswith(".safetensors") and not os.path.isfile(pretrained):
            yield f"{where}.pretrained is '{pretrained}'; there is no such file"
        elif not pretrained.endswith(".safetensors") and os.path.isfile(pretrained):
            yield (
                f"{where}.pretrained is '{pretrained}', a file that is no .safetensors; pickles "
                "are never read. Convert it"
            )
        elif backbone.normalisation is not None and not pretrained.endswith(".safetensors"):
            yield (
                f"{where}.normalisation is set, and the tag '{pretrained}' has its own, which is "
                "followed. Remove the key"
            )
        elif isinstance(backbone.architecture, Mapping) and "." not in pretrained:
            yield (
                f"{where}.pretrained is '{pretrained}'; an architecture that is written out has "
                "no tags. Give a local .safetensors file"
            )


def _backbone_problems(suite: Suite) -> Iterator[str]:
    """A backbone is of a known family and takes images of the size that its architecture has."""
    for name, backbone in suite.backbones.items():
        where, architecture = f"backbones.{name}", backbone.architecture
        if isinstance(architecture, str) and architecture not in shipped():
            what = "a model of open_clip"
            close = difflib.get_close_matches(architecture, shipped(), n=4, cutoff=0.3)
            yield choice(f"{where}.architecture", architecture, close, what)
            continue
        try:
            size = image_size(configuration(architecture))
        except ArchitectureError as error:
            yield f"{where}.architecture: {error}"
            continue
        if size != backbone.resolution:
            yield (
                f"{where}.resolution is {backbone.resolution}; the architecture's "
                f"images are {size} pixels wide. Set resolution to {size}"
            )


def _release_problems(suite: Suite) -> Iterator[str]:
    for release_format, settings in suite.release_formats.items():
        where = f"release_formats.{release_format}"
        for backbone in suite.backbones_in(release_format):
            if backbone not in suite.backbones:
                known = list(suite.backbones)
                yield choice(f"{where}.backbones", backbone, known, "a backbone of this suite")
        for task in settings.task_lambdas:
            if task not in suite.tasks:
                yield choice(
                    f"{where}.task_lambdas", task, list(suite.tasks), "a task of this suite"
                )
        batch, micro = settings.optimisation.batch_size, settings.optimisation.micro_batch_size
        # The default serves smaller batches as well: each is one forward pass.
        if micro > batch and micro != Optimisation.micro_batch_size:
            yield (
                f"{where}.optimisation.micro_batch_size is {micro}; it must not exceed batch_size "
                f"= {batch}"
            )
        if release_format == "full" and settings.adapter is not None:
            yield f"{where}.adapter is set; whole checkpoints have no adapter. Remove the key"
        if settings.optimisation.together and release_format == "full":
            yield (
                f"{where}.optimisation.together is set to true; it is for adapters, whose two "
                "passes have their weights in common. Remove the key"
            )


def _protection_problems(suite: Suite) -> Iterator[str]:
    """A post-hoc defense must apply to some update of the suite; what is merged must be made."""
    for name in suite.merging.protections or ():
        if name not in list(PROTECTIONS):
            yield choice("merging.protections", name, list(PROTECTIONS), "a protection")
    try:
        updates = [
            (release_format, family_of(suite.backbones[backbone].architecture))
            for release_format in suite.release_formats
            for backbone in suite.backbones_in(release_format)
            if backbone in suite.backbones
        ]
    except ValueError:
        return  # a backbone of no family, which has been said
    for name in suite.protections:
        if name in PROTECTIONS:
            reasons = [
                not_applicable(name, release_format, family) for release_format, family in updates
            ]
            if None not in reasons:
                found = "; ".join(dict.fromkeys(filter(None, reasons)))
                yield f"protections: '{name}' applies to no update here: {found}. Remove it"
        else:
            yield choice("protections", name, list(PROTECTIONS), "a protection")


def _protection_option_problems(suite: Suite) -> Iterator[str]:
    """Options are those of a protection of the suite; TRAP²'s have a place of their own."""
    threats, siblings = threats_of(suite).protections or (), siblings_of(suite).protections
    named = dict.fromkeys((*suite.protections, *threats, *siblings))
    known = [name for name in named if name in PROTECTIONS and PROTECTIONS[name].options]
    for name, options in suite.protection_options.items():
        if name == "trap2":
            yield "protection_options.trap2 is set; TRAP²'s options stand under trap2. Move them"
        elif name not in known:
            what = "a protection of this suite that has options"
            yield choice("protection_options", name, known, what)
        else:
            try:
                PROTECTIONS[name].check_options(options)
            except CatalogueError as error:
                yield from (f"protection_options.{name}: {e}" for e in str(error).splitlines())
