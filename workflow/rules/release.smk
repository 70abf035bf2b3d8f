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


rule collect_manifest:
    """List every file behind a suite's tables and figures with its SHA-256 and its maker."""
    input:
        artifacts=lambda w: [f"results/{w.suite}/{name}" for name in DEFAULT_ARTIFACTS],
    output:
        manifest="results/{suite}/manifest.json",
    log:
        "logs/{suite}/collect_manifest.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        code=code("collect_manifest.py"),
    message:
        "List the files behind the results of the {wildcards.suite} suite"
    script:
        "../scripts/collect_manifest.py"


rule verify:
    """Recompute the SHA-256 of every file behind the results; say what does not match."""
    log:
        f"logs/{config['suite']}/verify_results.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        # No input: verifying must not make anything.
        manifest=f"results/{config['suite']}/manifest.json",
    message:
        "Verify every file behind the results"
    script:
        "../scripts/verify_results.py"
