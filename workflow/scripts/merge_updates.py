"""Merge one set of updates in every method and space and score the results.

The output of an earlier run is kept in place by the rule; a cell in it whose key still fits is
taken over, so that a new method costs its own cells and nothing else, and a killed job goes on
where it was.
"""

import time
from pathlib import Path

from trap2.data.prepared import notes
from trap2.evaluation.cells import Search, cell_key, is_whole, seal, search_cell
from trap2.evaluation.tasks import Scorer, open_tasks
from trap2.merging.merger import Merger
from trap2.models.clip.tower import load_tower
from trap2.runtime import device as devices
from trap2.runtime import files, job
from trap2.runtime.versions import versions
from trap2.updates.stored import load_updates


def input_digests() -> dict[str, str]:
    """SHA-256 of every input but the arrays, whose manifests hold theirs."""
    paths = [path for path in map(str, snakemake.input) if not path.endswith(".npy")]
    return {path: files.sha256(path) for path in paths if not path.endswith("update.json")}


def earlier_cells(path: Path) -> dict[str, dict]:
    """The cells of an earlier run; without what was damaged since."""
    try:
        cells = files.read_json(path)["cells"]
        return {column: cell for column, cell in cells.items() if is_whole(cell)}
    except (files.FileError, AttributeError, KeyError, TypeError):
        return {}


with job.running(snakemake) as log:
    params, names = snakemake.params, dict(snakemake.wildcards)
    output = Path(snakemake.output.merges)
    device = devices.device(params.device, snakemake.threads)
    model = load_tower(snakemake.input.model, params.backbone, device)
    data = list(snakemake.input.data)
    tasks = open_tasks(params.tasks, data, snakemake.input.heads, snakemake.input.references)
    scorer = Scorer(model, tasks, params.logit_scale, params.batch_size, device)
    updates = load_updates(snakemake.input.updates, snakemake.input.model)
    search = Search(**params.merging["search"])
    record = {
        "suite": names["suite"],
        "backbone": names["backbone"],
        "release_format": names["release_format"],
        "protection": names["protection"],
        "protected_task": names["protected"],
        "tasks": params.tasks,
        "seed": params.seed,
        "device": device.type,
        "versions": versions(),
        "notes": notes(data),
        "cells": {},
    }
    common = {
        "inputs": input_digests(),
        "references": {name: task.reference for name, task in tasks.items()},
        "search": params.merging["search"],
        "code": params.code,
        "device": device.type,
        "batch_size": params.batch_size,
    }
    earlier = earlier_cells(output)
    mergers: dict[str, Merger] = {}
    for method, space in params.cells:
        column = f"{method}-{space}"
        options = params.merging["options"].get(method, {})
        key = cell_key(common | {"method": method, "space": space, "options": options})
        cell = earlier.get(column, {})
        if cell.get("key") != key:
            started = time.monotonic()
            if space not in mergers:
                mergers[space] = Merger(updates, space)
            cell = search_cell(scorer, mergers[space], method, options, search)
            cell |= {"merge_method": method, "merge_space": space, "key": key}
            cell = seal(cell | {"seconds": round(time.monotonic() - started, 2)})
        log(
            f"{column}: s = {cell['coefficient']:g}, normalised validation accuracy "
            f"{cell['normalised_val_accuracy']:.2f} %, {cell['seconds']} s"
        )
        record["cells"][column] = cell
        # Cells that are not due yet stay in the file, in case this job is killed.
        files.write_json(output, record | {"cells": earlier | record["cells"]})
    files.write_json(output, record)
