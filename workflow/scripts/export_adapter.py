"""Write a ViT adapter with the names of Hugging Face's CLIP."""

from pathlib import Path

from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.updates.hub_names import export_adapter

with job.running(snakemake) as log:
    source, target = (
        Path(paths[0]).parent for paths in (snakemake.input.adapter, snakemake.output.adapter)
    )
    export_adapter(source, target)
    log(f"wrote {target}, for PeftModel.from_pretrained on transformers' CLIPModel")
