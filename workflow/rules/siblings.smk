# Siblings: the protocols of the papers of Merge-Lock and of MergeGuard, on whole checkpoints.
#
# Needs whole checkpoints with every protection of the suite's `siblings`, the base, heads and data;
# makes results/{suite}/{backbone}/full/siblings/{protection}/{protected}.json, where `protected` is
# the task that the protected update is of, and the tables and figures made from these.


rule merge_siblings:
    """Merge one protected whole checkpoint in pairs and with all, aligned back and not."""
    input:
        model=files.model,
        heads=files.heads,
        zero_shot=sibling_files.zero_shot,
        data=files.all_prepared("train", "test"),
        updates=files.merged,
    output:
        # One job makes all cells, and keeps those of an earlier run that are still valid.
        siblings=update(
            "<results>/{suite}/{backbone}/{release_format,full}/siblings/{protection}/{protected}.json"
        ),
    log:
        "<logs>/{suite}/merge_siblings/{backbone}-{release_format}-{protection}-{protected}.log",
    benchmark:
        "<logs>/{suite}/merge_siblings/{backbone}-{release_format}-{protection}-{protected}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(3000, 64000),
        runtime=parameters.sized(60, 1440),
    params:
        backbone=parameters.backbone(),
        tasks=parameters.tasks,
        cells=parameters.sibling_cells,
        plan=parameters.sibling_plan,
        seed=parameters.seed,
        logit_scale=parameters.logit_scale,
        batch_size=parameters.batch_size,
        device=configuration.device,
        # Each cell has that of its own method and attack in its key.
        methods=code.sibling_cells(parameters.sibling_cells),
        code=code.task_arithmetic("merge_siblings.py"),
    message:
        "Merge on {wildcards.backbone} as the sibling papers do, {wildcards.protection}: protected task {wildcards.protected}"
    script:
        "../scripts/merge_siblings.py"
