# Release: what leaves a run for others, and what says that it is whole.
#
# `release` stages the bundle data/, `compare_reference` compares a run from it with the tables
# that came with it; `collect_manifest` and `verify` list and check every file behind the results.
# .../{task}/{protection}/hf/ is an adapter with the names of Hugging Face's CLIP: ask for the file.


rule export_adapter:
    """Write a ViT adapter with the names of Hugging Face's CLIP."""
    input:
        adapter=expand(
            "<results>/{suite}/{backbone}/lora/{task}/{protection}/{name}",
            name=UPDATE_FILES["lora"][:2],
            allow_missing=True,
        ),
    output:
        adapter=expand(
            "<results>/{suite}/{backbone}/lora/{task}/{protection}/hf/{name}",
            name=UPDATE_FILES["lora"][:2],
            allow_missing=True,
        ),
    log:
        "<logs>/{suite}/export_adapter/{backbone}-{task}-{protection}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        code=code("export_adapter.py"),
    message:
        "Export the {wildcards.protection} adapter of {wildcards.task} on {wildcards.backbone}"
    script:
        "../scripts/export_adapter.py"


rule collect_manifest:
    """List every file behind a suite's tables and figures with its SHA-256 and its maker.

    manifest.json is of `all`, manifest_all.json of `all_artifacts`.
    """
    input:
        artifacts=results.manifested,
    output:
        manifest="<results>/{suite}/{manifest,manifest|manifest_all}.json",
    log:
        "<logs>/{suite}/collect_{manifest}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        seed=parameters.seed,
        checkpoints=configuration.checkpoints,
        code=code("collect_manifest.py"),
    message:
        "List the files behind the results of the {wildcards.suite} suite ({wildcards.manifest})"
    script:
        "../scripts/collect_manifest.py"


rule verify:
    """Recompute the SHA-256 of every file behind the results; say what does not match."""
    log:
        f"<logs>/{configuration.suite}/verify.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        # No input: verifying must not make anything.
        manifests=results.manifests(),
        published=files.root,
    message:
        "Verify every file behind the results"
    script:
        "../scripts/verify.py"


rule release:
    """Copy the configured suite's checkpoints into data/, with manifest and model cards."""
    input:
        checkpoints=results.to_release,
        splits=results.splits_to_release,
        reference=results.tables_to_release,
    log:
        f"<logs>/{configuration.suite}/release.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    # No output: data/ is tracked by DVC, and is an input of every other run.
    params:
        suite=configuration.suite,
        configuration=parameters.bundle,
    message:
        "Copy the checkpoints of the configured suite into data/"
    script:
        "../scripts/release.py"


rule compare_reference:
    """Compare tables and splits with those that came with the released checkpoints."""
    input:
        tables=results.tables_to_compare,
        reference=results.reference_tables,
        splits=results.splits,
        released_splits=results.released_splits,
    output:
        page="<results>/{suite}/reproduction.md",
    log:
        "<logs>/{suite}/compare_reference.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        code=code("compare_reference.py"),
    message:
        "Compare the {wildcards.suite} suite with the tables that came with its checkpoints"
    script:
        "../scripts/compare_reference.py"
