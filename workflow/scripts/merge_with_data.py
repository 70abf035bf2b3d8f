"""Merge one set of adapters with a sample of every task's images and score the results."""

import time
from typing import cast

from trap2.data.prepared import notes
from trap2.evaluation.cells import data_cell
from trap2.evaluation.tasks import Scorer, open_tasks, proxy_batches
from trap2.merging.catalogue import data_column
from trap2.models.clip.tower import load_tower
from trap2.runtime import device as devices
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.runtime.versions import versions
from trap2.updates.records import CellRecord
from trap2.updates.stored import load_updates

with job.running(snakemake) as log:
    params, names = snakemake.params, dict(snakemake.wildcards)
    device = devices.device(params.device, snakemake.threads)
    data = list(snakemake.input.data)
    model = load_tower(snakemake.input.model, params.backbone, device)
    tasks = open_tasks(params.tasks, data, snakemake.input.heads, snakemake.input.references)
    scorer = Scorer(model, tasks, params.logit_scale, params.batch_size, device)
    updates = load_updates(snakemake.input.updates, snakemake.input.model)
    cells: dict[str, CellRecord] = {}
    record = {
        **{key: names[key] for key in ("suite", "backbone", "protection")},
        "release_format": "lora",
        "protected_task": names["protected"],
        "tasks": params.tasks,
        "seed": params.seed,
        "samples": params.merging["samples"],
        "device": device.type,
        "versions": versions(),
        "notes": notes(data),
        "cells": cells,
    }
    batches = {
        sampling: [
            proxy_batches(
                tasks[task].val,
                task,
                samples=params.merging["samples"],
                sampling=sampling,
                seed=params.seed,
                device=device,
            )
            for task in params.tasks
        ]
        for sampling in params.merging["samplings"]
    }
    for method, options in params.merging["methods"].items():
        for sampling in params.merging["samplings"]:
            column, started = data_column(method, sampling), time.monotonic()
            found = data_cell(scorer, batches[sampling], updates, method, options)
            seconds = round(time.monotonic() - started, 2)
            facts = {"merge_method": column, "merge_space": "Full", "seconds": seconds}
            cells[column] = cast(CellRecord, {**found, **facts})
            value = found["normalised_val_accuracy"]
            log(f"{column}: normalised validation accuracy {value:.2f} %, {seconds} s")
    files.write_json(snakemake.output.merges, record)
