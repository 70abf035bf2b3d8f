"""Merge one protected whole checkpoint by the protocols of the sibling papers."""

from pathlib import Path

from trap2.attacks.protocols import Released, SiblingPlan, merge_siblings
from trap2.evaluation.merges import input_digests
from trap2.evaluation.tasks import open_bench
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.updates.delta import dense_layers
from trap2.updates.sibling_records import SiblingRecord
from trap2.updates.stored import updates_by_task

with job.running(snakemake) as log:
    params, names, given = snakemake.params, dict(snakemake.wildcards), snakemake.input
    bench = open_bench(snakemake, "train", "test")
    # In memory: a pair's are read for every cell.
    updates = {
        task: dict(dense_layers(update))
        for task, update in updates_by_task(params.tasks, given.updates, given.model).items()
    }
    record: SiblingRecord = {
        "suite": names["suite"],
        "backbone": names["backbone"],
        "release_format": names["release_format"],
        "protection": names["protection"],
        "protected_task": names["protected"],
        "tasks": params.tasks,
        "seed": params.seed,
        "zero_shot": files.read_json(given.zero_shot)["test"],
        "standalone": {},
        "distances": [],
        "cells": {},
        "device": bench.origin["device"],
        "versions": bench.origin["versions"],
        "notes": bench.origin["notes"],
    }
    own = {
        task: input_digests(
            path for path in map(str, given) if task in (*Path(path).parts, Path(path).stem)
        )
        for task in params.tasks
    }
    merge_siblings(
        Released(bench.model, bench.tasks, updates, names["protected"], params.seed),
        SiblingPlan([tuple(cell) for cell in params.cells], **params.plan, code=params.methods),
        record,
        {
            "model": input_digests([given.model]),
            "code": params.code,
            "logit_scale": params.logit_scale,
            "batch_size": params.batch_size,
        },
        own,
        output=Path(snakemake.output.siblings),
        log=log,
    )
