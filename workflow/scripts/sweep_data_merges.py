"""Merge one set of adapters with a sample of every task's images and score the results."""

import time

from trap2 import files, job, released
from trap2.cells import Scorer, open_tasks
from trap2.data_cells import data_cell, proxy_batches
from trap2.data_columns import data_column
from trap2.provenance import versions

with job.running(snakemake) as say:
    params, names = snakemake.params, dict(snakemake.wildcards)
    device = job.device(params.device, snakemake.threads)
    data = list(snakemake.input.data)
    tower = released.load_tower(snakemake.input.tower, params.backbone, device)
    tasks = open_tasks(params.tasks, data, snakemake.input.heads, snakemake.input.references)
    scorer = Scorer(tower, tasks, params.logit_scale, params.batch_size, device)
    updates = released.load_updates(snakemake.input.updates, snakemake.input.tower)
    record = {
        **{key: names[key] for key in ("suite", "backbone", "protection")},
        "release": "lora",
        "protected_task": names["protected"],
        "tasks": params.tasks,
        "seed": params.seed,
        "samples": params.merging["samples"],
        "device": device.type,
        "versions": versions(),
        "notes": released.notes(data),
        "cells": {},
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
            cell = data_cell(scorer, batches[sampling], updates, method, options)
            cell |= {"merge_method": column, "merge_space": "Full"}
            cell["seconds"] = round(time.monotonic() - started, 2)
            record["cells"][column] = cell
            value = cell["normalised_val_accuracy"]
            say(f"{column}: normalised validation accuracy {value:.2f} %, {cell['seconds']} s")
    files.write_json(snakemake.output.merges, record)
