"""Score every task's update at a grid of scales: W0 + s·ΔW (Figures 2, 5 and 7)."""

from pathlib import Path

from trap2.data.prepared import notes, open_task
from trap2.evaluation.scale_grid import profile_grid
from trap2.evaluation.scale_sweep import scale_profile
from trap2.models.clip.heads import read_head
from trap2.models.clip.tower import load_tower
from trap2.runtime import device as devices
from trap2.runtime import files, job
from trap2.updates.stored import load_update

with job.running(snakemake) as say:
    device = devices.device(snakemake.params.device, snakemake.threads)
    tower = load_tower(snakemake.input.tower, snakemake.params.backbone, device)
    heads = {Path(path).stem: read_head(path) for path in snakemake.input.heads}
    folders = {Path(path).parent.parent.name: Path(path).parent for path in snakemake.input.updates}
    profiles = {}
    for task in snakemake.params.tasks:
        profiles[task] = scale_profile(
            tower,
            load_update(folders[task], snakemake.input.tower),
            profile_grid(len(snakemake.params.tasks)),
            head=heads[task],
            split=open_task(list(snakemake.input.data), task, "test"),
            logit_scale=snakemake.params.logit_scale,
            batch_size=snakemake.params.batch_size,
            device=device,
        )
        say(f"{task}: {len(profiles[task])} scales")
    record = dict(snakemake.wildcards) | {"profiles": profiles}
    record["notes"] = notes(snakemake.input.data)
    files.write_json(snakemake.output.profile, record)
