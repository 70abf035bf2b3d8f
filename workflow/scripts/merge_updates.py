"""Merge one set of updates by every method, in every space or with every sample, and score it."""

from pathlib import Path

from trap2.evaluation.merges import MergePlan, input_digests, merge_updates
from trap2.evaluation.tasks import Scorer, open_bench
from trap2.merging.settings import Search
from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.updates.records import MergeRecord
from trap2.updates.stored import load_updates

with job.running(snakemake) as log:
    params, names, given = snakemake.params, dict(snakemake.wildcards), snakemake.input
    bench = open_bench(snakemake, "val", "test")
    record: MergeRecord = {
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
    merging = params.merging
    plan = MergePlan(
        params.cells,
        merging["options"],
        params.methods,
        Search(**merging["search"]) if "search" in merging else None,
        merging.get("samples", 0),
        params.seed,
    )
    merge_updates(
        Scorer.of(bench, given.references),
        load_updates(given.updates, given.model),
        plan,
        record,
        {"inputs": input_digests(map(str, given)), "code": params.code},
        output=Path(snakemake.output.merges),
        log=log,
    )
