"""Measure what Theorems A.2 and A.4 speak of: slopes and curvatures of every update and pair."""

from pathlib import Path

from trap2.data.prepared import notes, open_task
from trap2.evaluation.landscape import Landscape, sampled_loss
from trap2.models.clip.heads import read_head
from trap2.models.clip.tower import load_tower
from trap2.runtime import device as devices
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.runtime.seeding import numpy_generator
from trap2.runtime.versions import versions
from trap2.updates.stored import load_updates

with job.running(snakemake) as log:
    params = snakemake.params
    device = devices.device(params.device, snakemake.threads)
    data = list(snakemake.input.data)
    losses = {
        Path(path).stem: sampled_loss(
            open_task(data, Path(path).stem, "test"),
            read_head(path),
            params.logit_scale,
            params.images,
            numpy_generator(params.seed, "curvature sample", Path(path).stem),
            device,
        )
        for path in snakemake.input.heads
    }
    model = load_tower(snakemake.input.model, params.backbone, device)
    landscape = Landscape(model, losses)
    protected, unprotected = (
        dict(zip(params.tasks, load_updates(paths, snakemake.input.model), strict=True))
        for paths in (snakemake.input.protected, snakemake.input.unprotected)
    )
    sides = {"protected": protected, "unprotected": unprotected}
    updates, slopes = [], {}
    for task in params.tasks:
        for side, adapters in sides.items():
            slopes[side, task] = landscape.gradient(adapters[task], task)
        updates += [{"task": task} | each for each in landscape.scaling(protected[task], task)]
        log(f"{task}: gradient {slopes['protected', task]:.3g}")
    pairs = []
    for first in params.tasks:
        for second in params.tasks:
            if first == second:
                continue
            names = {"protected_task": first, "unprotected_task": second}
            one, two = protected[first], unprotected[second]
            for side, task, own, other in (
                ("protected", first, one, two),
                ("unprotected", second, two, one),
            ):
                found = landscape.degradation(own, other, task, slopes[side, task])
                pairs.append(names | {"side": side} | found)
        log(f"{first}: measured with every other task")
    record = {
        **dict(snakemake.wildcards),
        "release_format": "lora",
        "images": params.images,
        "updates": updates,
        "pairs": pairs,
        "device": device.type,
        "versions": versions(),
        "notes": notes(data),
    }
    files.write_json(snakemake.output.curvature, record)
