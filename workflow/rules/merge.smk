# Merging: one protected update with the other tasks' unprotected ones (the paper's eight trials).
#
# Needs the released updates, the base, heads and data of all tasks; makes
# results/{suite}/{backbone}/{release_format}/{merges}/{protection}/{protected}.json, where `protected`
# is the protected task, or `none` for the merge of unprotected updates, and `merges` is merges, or
# data_merges for those that see a sample of the tasks' images (Appendix D.6).


rule merge_updates:
    """Merge one protected update with the others' unprotected ones, by every method."""
    input:
        model=files.model,
        heads=files.heads,
        data=files.all_prepared("val", "test"),
        updates=files.merged,
        references=files.references,
    output:
        # One job computes all cells, because loading the library, the model and the data
        # costs more than a cell; it keeps the cells of an earlier run that are still valid.
        merges=update(
            "<results>/{suite}/{backbone}/{release_format}/{merges}/{protection}/{protected}.json"
        ),
    log:
        "<logs>/{suite}/merge_updates/{backbone}-{release_format}-{merges}-{protection}-{protected}.log",
    benchmark:
        "<logs>/{suite}/merge_updates/{backbone}-{release_format}-{merges}-{protection}-{protected}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(3000, 32000),
        runtime=parameters.sized(15, 480),
    params:
        backbone=parameters.backbone(),
        tasks=parameters.tasks,
        cells=parameters.cells,
        merging=parameters.merging,
        seed=parameters.seed,
        logit_scale=parameters.logit_scale,
        batch_size=parameters.batch_size,
        device=configuration.device,
        # Of the methods' code each cell has its own in its key.
        methods=code.methods(parameters.cells),
        code=code.model("merge_updates.py"),
    message:
        "Merge on {wildcards.backbone}, {wildcards.protection}: protected task {wildcards.protected} ({wildcards.release_format})"
    script:
        "../scripts/merge_updates.py"


rule collect_cells:
    """Collect all merges of a suite in one table, a row each; formats on request are left out."""
    input:
        merges=files.cells,
    output:
        cells="<results>/{suite}/cells.csv",
    log:
        "<logs>/{suite}/collect_cells.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        tasks=parameters.tasks,
        code=code("collect_cells.py"),
    message:
        "Collect the merges of the {wildcards.suite} suite, a row each"
    script:
        "../scripts/collect_cells.py"
