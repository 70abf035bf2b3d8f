"""Attack one protected update among the others' unprotected ones, in every way."""

from pathlib import Path

from trap2.attacks.stage import Stage
from trap2.attacks.staging import AttackPlan, attack_updates
from trap2.evaluation.merges import input_digests
from trap2.evaluation.tasks import open_bench, reference_accuracy
from trap2.merging.settings import Search
from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.updates.records import AttackRecord
from trap2.updates.stored import updates_by_task

with job.running(snakemake) as log:
    params, names, given = snakemake.params, dict(snakemake.wildcards), snakemake.input
    bench = open_bench(snakemake, "train", "val", "test")
    record: AttackRecord = {
        "suite": names["suite"],
        "backbone": names["backbone"],
        "release_format": names["release_format"],
        "protection": names["protection"],
        "protected_task": names["protected"],
        "tasks": params.tasks,
        "seed": params.seed,
        "cells": {},
        "device": bench.origin["device"],
        "versions": bench.origin["versions"],
        "notes": bench.origin["notes"],
    }
    stage = Stage(
        bench.model,
        bench.tasks,
        updates_by_task(params.tasks, given.updates, given.model),
        names["protected"],
        Search(**params.search),
        dict(map(reference_accuracy, given.references)),
        seed=params.seed,
    )
    attack_updates(
        stage,
        AttackPlan(params.cells, params.options, params.attacks, params.curve_seeds),
        record,
        {
            "inputs": input_digests(map(str, given)),
            "code": params.code,
            "logit_scale": params.logit_scale,
        },
        output=Path(snakemake.output.attacks),
        log=log,
    )
