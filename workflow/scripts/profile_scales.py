"""Score every task's update at a grid of scales: W0 + s·ΔW (Figures 2, 5 and 7)."""

from pathlib import Path

from trap2 import files, job, released
from trap2.clip.heads import read_head
from trap2.report.scales import profile_grid
from trap2.scale_profile import scale_profile

with job.running(snakemake) as say:
    device = job.device(snakemake.params.device, snakemake.threads)
    tower = released.load_tower(snakemake.input.tower, snakemake.params.backbone, device)
    heads = {Path(path).stem: read_head(path) for path in snakemake.input.heads}
    folders = {Path(path).parent.parent.name: Path(path).parent for path in snakemake.input.updates}
    profiles = {}
    for task in snakemake.params.tasks:
        profiles[task] = scale_profile(
            tower,
            released.load_update(folders[task], snakemake.input.tower),
            profile_grid(len(snakemake.params.tasks)),
            head=heads[task],
            split=released.open_task(list(snakemake.input.data), task, "test"),
            logit_scale=snakemake.params.logit_scale,
            batch_size=snakemake.params.batch_size,
            device=device,
        )
        say(f"{task}: {len(profiles[task])} scales")
    record = dict(snakemake.wildcards) | {"profiles": profiles}
    record["notes"] = released.notes(snakemake.input.data)
    files.write_json(snakemake.output.profile, record)
