# Release: updates in the forms in which others use them.
#
# Needs a released update; makes .../{task}/{protection}/hf/, a PEFT adapter with the names of
# Hugging Face's CLIP.  Nothing else depends on it: ask for the file.


rule export_adapter:
    """Write a ViT adapter with the names of Hugging Face's CLIP."""
    input:
        adapter=expand(
            "results/{suite}/{backbone}/lora/{task}/{protection}/{name}",
            name=UPDATE_FILES["lora"][:2],
            allow_missing=True,
        ),
    output:
        adapter=expand(
            "results/{suite}/{backbone}/lora/{task}/{protection}/hf/{name}",
            name=UPDATE_FILES["lora"][:2],
            allow_missing=True,
        ),
    log:
        "logs/{suite}/export_adapter/{backbone}-{task}-{protection}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("export_adapter.py"),
    message:
        "Export the {wildcards.protection} adapter of {wildcards.task} on {wildcards.backbone}"
    script:
        "../scripts/export_adapter.py"
