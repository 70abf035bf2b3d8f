"""Mix every task's protected adapter with every other task's unprotected one."""

from functools import partial
from pathlib import Path

from trap2.data.prepared import notes, open_task
from trap2.evaluation.pairs import PAIR_SCALE, mix_pair
from trap2.models.clip.classifier import score
from trap2.models.clip.heads import read_head
from trap2.models.clip.tower import load_tower
from trap2.models.scoring import score_record
from trap2.runtime import device as devices
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.runtime.versions import versions
from trap2.updates.records import ScoreRecord
from trap2.updates.stored import load_updates

with job.running(snakemake) as log:
    params = snakemake.params
    device = devices.device(params.device, snakemake.threads)
    data = list(snakemake.input.data)
    model = load_tower(snakemake.input.model, params.backbone, device)
    heads = {Path(path).stem: read_head(path) for path in snakemake.input.heads}
    tests = {task: open_task(data, task, "test") for task in params.tasks}
    protected, unprotected = (
        dict(zip(params.tasks, load_updates(paths, snakemake.input.model), strict=True))
        for paths in (snakemake.input.protected, snakemake.input.unprotected)
    )

    def measure(tasks: dict[str, str]) -> dict[str, ScoreRecord]:
        """The tower's score, as it is now, on the pair's two tasks."""
        return {
            side: score_record(
                score(
                    model,
                    heads[task],
                    params.logit_scale,
                    tests[task],
                    batch_size=params.batch_size,
                    device=device,
                )
            )
            for side, task in tasks.items()
        }

    pairs = []
    for first in params.tasks:
        for second in params.tasks:
            if first == second:
                continue
            names = {"protected": first, "unprotected": second}
            found = mix_pair(model, protected[first], unprotected[second], partial(measure, names))
            pairs.append({f"{side}_task": task for side, task in names.items()} | found)
            log(f"{first} with {second}: distance {found['distance']:.3f}")
    record = {
        **dict(snakemake.wildcards),
        "release_format": "lora",
        "scale": PAIR_SCALE,
        "tasks": params.tasks,
        "pairs": pairs,
        "device": device.type,
        "versions": versions(),
        "notes": notes(data),
    }
    files.write_json(snakemake.output.pairs, record)
