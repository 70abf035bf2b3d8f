"""Merge every variant of a sweep with the other tasks' unprotected adapters, by task arithmetic."""

from pathlib import Path

from trap2.data.prepared import notes
from trap2.evaluation.cells import Search, search_cell
from trap2.evaluation.tasks import Scorer, open_tasks
from trap2.merging.merger import Merger
from trap2.models.clip.tower import load_tower
from trap2.runtime import device as devices
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.runtime.versions import versions
from trap2.updates.stored import load_update, load_updates

METHOD = "TA"

with job.running(snakemake) as log:
    params = snakemake.params
    device = devices.device(params.device, snakemake.threads)
    data = list(snakemake.input.data)
    model = load_tower(snakemake.input.model, params.backbone, device)
    tasks = open_tasks(params.tasks, data, snakemake.input.heads, snakemake.input.references)
    scorer = Scorer(model, tasks, params.logit_scale, params.batch_size, device)
    search = Search(**params.search)
    plain = dict(
        zip(
            params.tasks,
            load_updates(snakemake.input.unprotected, snakemake.input.model),
            strict=True,
        )
    )
    references = {
        record["task"]: record["test"]["accuracy"]
        for record in map(files.read_json, snakemake.input.references)
    }
    unprotected = search_cell(scorer, Merger(list(plain.values())), METHOD, {}, search)
    found = []
    folders = dict.fromkeys(Path(path).parent for path in snakemake.input.variants)
    for value, folder in zip(params.values, folders, strict=True):
        record = files.read_json(folder / "update.json")
        update = load_update(folder, snakemake.input.model)
        updates = [update if task == record["task"] else plain[task] for task in params.tasks]
        cell = search_cell(scorer, Merger(updates), METHOD, {}, search)
        found.append(
            {"task": record["task"], "value": value, "cell": cell}
            | {"standalone": record["test"]["accuracy"], "unprotected": references[record["task"]]}
        )
        log(f"{value}, {record['task']}: s = {cell['coefficient']:g}")
    files.write_json(
        snakemake.output.sweep,
        {
            **dict(snakemake.wildcards),
            "release_format": "lora",
            "labels": params.labels,
            "unprotected": unprotected,
            "variants": found,
            "device": device.type,
            "versions": versions(),
            "notes": notes(data),
        },
    )
