"""Build a task's zero-shot head from the text tower and score the base model with it."""

from pathlib import Path

from trap2.data.prepared import notes, open_task
from trap2.models.clip.build import build_clip
from trap2.models.clip.classifier import score
from trap2.models.clip.heads import tokenizer_for, write_head, zero_shot_head
from trap2.models.clip.tower import vision_tower
from trap2.models.scoring import score_record
from trap2.runtime import device as devices
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    names = dict(snakemake.wildcards)
    backbone = snakemake.params.backbone
    device = devices.device(snakemake.params.device, snakemake.threads)
    data = list(snakemake.input.data)
    manifest = files.read_json(Path(data[0]).parent / "manifest.json")
    clip = build_clip(backbone["architecture"], Path(snakemake.input.base)).to(device)
    names_of_classes, templates = manifest["class_names"], manifest["templates"]
    head = zero_shot_head(clip, tokenizer_for(clip), names_of_classes, templates)
    model = vision_tower(clip)
    record = names | {"protection": "zero-shot", "templates": templates}
    record["notes"] = notes(data)
    for split in ("val", "test"):
        result = score(
            model,
            head,
            snakemake.params.logit_scale,
            open_task(data, names["task"], split),
            batch_size=256,
            device=device,
        )
        record[split] = score_record(result)
        log(f"zero-shot {split} accuracy {result.accuracy:.2f} %")
    write_head(snakemake.output.head, head, names_of_classes)
    files.write_json(snakemake.output.record, record)
