"""Merge one set of updates by every method, in every space or with every sample, and score it."""

from pathlib import Path

from trap2.data.prepared import notes
from trap2.evaluation.cells import Search
from trap2.evaluation.merges import MergePlan, input_digests, merge_updates
from trap2.evaluation.tasks import Scorer, open_tasks
from trap2.models.clip.tower import load_tower
from trap2.runtime import device as devices
from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.runtime.versions import versions
from trap2.updates.records import MergeRecord
from trap2.updates.stored import load_updates

with job.running(snakemake) as log:
    params, names, given = snakemake.params, dict(snakemake.wildcards), snakemake.input
    device = devices.device(params.device, snakemake.threads)
    tasks = open_tasks(params.tasks, list(given.data), given.heads, given.references)
    model = load_tower(given.model, params.backbone, device)
    record: MergeRecord = {
        "suite": names["suite"],
        "backbone": names["backbone"],
        "release_format": names["release_format"],
        "protection": names["protection"],
        "protected_task": names["protected"],
        "tasks": params.tasks,
        "seed": params.seed,
        "device": device.type,
        "versions": versions(),
        "notes": notes(given.data),
        "cells": {},
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
        Scorer(model, tasks, params.logit_scale, params.batch_size, device),
        load_updates(given.updates, given.model),
        plan,
        record,
        {"inputs": input_digests(map(str, given)), "code": params.code},
        output=Path(snakemake.output.merges),
        log=log,
    )
