# Attacks: who merges a protected update anyway, with what, and at what price.
#
# Needs the released updates, the base, heads and data of all tasks; makes
# results/{suite}/{backbone}/{release_format}/attacks/{protection}/{protected}.json, where `protected`
# is the task that the attacker wants; `unprotected` is the control, in which nothing is protected.


rule attack_updates:
    """Attack one protected update among the others' unprotected ones, in every way."""
    input:
        model=files.model,
        heads=files.heads,
        data=files.all_prepared("train", "val", "test"),
        updates=files.merged,
        references=files.references,
    output:
        # One job runs all attacks, as merge_updates does all cells, and keeps those of an
        # earlier run that are still valid.
        attacks=update(
            "<results>/{suite}/{backbone}/{release_format}/attacks/{protection}/{protected}.json"
        ),
    log:
        "<logs>/{suite}/attack_updates/{backbone}-{release_format}-{protection}-{protected}.log",
    benchmark:
        "<logs>/{suite}/attack_updates/{backbone}-{release_format}-{protection}-{protected}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(3000, 48000),
        runtime=parameters.sized(60, 2880),
    params:
        backbone=parameters.backbone(),
        tasks=parameters.tasks,
        cells=parameters.attack_cells,
        options=parameters.attack_options,
        curve_seeds=parameters.curve_seeds,
        search=parameters.search,
        seed=parameters.seed,
        logit_scale=parameters.logit_scale,
        batch_size=parameters.batch_size,
        device=configuration.device,
        # Of the attacks' code each cell has its own in its key.
        attacks=code.attacks(parameters.attack_cells),
        code=code.task_arithmetic("attack_updates.py"),
    message:
        "Attack on {wildcards.backbone}, {wildcards.protection}: protected task {wildcards.protected} ({wildcards.release_format})"
    script:
        "../scripts/attack_updates.py"
