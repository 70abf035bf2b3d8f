"""Score every task's update at a grid of scales: W0 + s·ΔW (Figures 2, 5 and 7)."""

from pathlib import Path

from trap2.data.prepared import notes, open_task
from trap2.evaluation.scale_grid import scale_grid
from trap2.evaluation.scale_sweep import sweep_scale
from trap2.models.clip.heads import read_head
from trap2.models.clip.tower import load_tower
from trap2.runtime import device as devices
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.updates.stored import load_update

with job.running(snakemake) as log:
    device = devices.device(snakemake.params.device, snakemake.threads)
    model = load_tower(snakemake.input.model, snakemake.params.backbone, device)
    heads = {Path(path).stem: read_head(path) for path in snakemake.input.heads}
    folders = {Path(path).parent.parent.name: Path(path).parent for path in snakemake.input.updates}
    sweeps = {}
    for task in snakemake.params.tasks:
        sweeps[task] = sweep_scale(
            model,
            load_update(folders[task], snakemake.input.model),
            scale_grid(len(snakemake.params.tasks)),
            head=heads[task],
            split=open_task(list(snakemake.input.data), task, "test"),
            logit_scale=snakemake.params.logit_scale,
            batch_size=snakemake.params.batch_size,
            device=device,
        )
        log(f"{task}: {len(sweeps[task])} scales")
    facts = dict(snakemake.wildcards)
    record = {**facts, "sweeps": sweeps, "notes": notes(snakemake.input.data)}
    files.write_json(snakemake.output.sweeps, record)
