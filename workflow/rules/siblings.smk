# Siblings: the protocols of the papers of Merge-Lock and of MergeGuard, on whole checkpoints.
#
# Needs whole checkpoints with every protection of the suite's `siblings`, the base, heads and data;
# makes results/{suite}/{backbone}/full/siblings/{protection}/{protected}.json, where `protected` is
# the task that the protected update is of, and from these mergelock_table1 to 4, mergeguard_table1 to 5
# and aga_table (.csv, .tex), mergelock_figure2 to 4 (.csv, .pdf, .png) and sibling_claims.csv. Which
# backbone each shows: trap2/suites/sibling_tables.py.


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


rule collect_siblings:
    """Collect a table of the sibling papers, the published numbers beside."""
    input:
        records=sibling_files.table,
        published=sibling_files.published,
    output:
        table="<results>/{suite}/{artifact}.csv",
    log:
        "<logs>/{suite}/collect_siblings/{artifact}.log",
    wildcard_constraints:
        artifact="|".join(sibling_tables.TABLES),
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        notes=sibling_files.notes,
        code=code("collect_siblings.py"),
    message:
        "Collect {wildcards.artifact} of the {wildcards.suite} suite"
    script:
        "../scripts/collect_siblings.py"


rule render_siblings:
    """Render a table of the sibling papers as LaTeX."""
    input:
        table="<results>/{suite}/{artifact}.csv",
    output:
        tex="<results>/{suite}/{artifact}.tex",
    log:
        "<logs>/{suite}/render_siblings/{artifact}.log",
    wildcard_constraints:
        artifact="|".join(sibling_tables.TABLES),
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        seed=parameters.seed,
        code=code.siblings("render_siblings.py"),
    message:
        "Render {wildcards.artifact} of the {wildcards.suite} suite"
    script:
        "../scripts/render_siblings.py"


rule plot_siblings:
    """Tabulate and plot a figure of Merge-Lock's paper."""
    input:
        records=sibling_files.figure,
    output:
        csv="<results>/{suite}/mergelock_figure{number}.csv",
        pdf="<results>/{suite}/mergelock_figure{number}.pdf",
        png=report(
            "<results>/{suite}/mergelock_figure{number}.png",
            caption="../report/siblings.rst",
            category=artifacts.SIBLINGS,
            labels={"content": "Merge-Lock, Figure {number}"},
        ),
    log:
        "<logs>/{suite}/plot_siblings/{number}.log",
    wildcard_constraints:
        number="[234]",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        seed=parameters.seed,
        task=sibling_files.curve_task,
        text=lambda w: artifacts.ARTIFACTS[f"mergelock_figure{w.number}"].text,
        code=code.siblings("plot_siblings.py"),
    message:
        "Plot Merge-Lock's Figure {wildcards.number} of the {wildcards.suite} suite"
    script:
        "../scripts/plot_siblings.py"


rule judge_siblings:
    """Put the claims of the sibling papers to the test (config/claims.yaml)."""
    input:
        claims="config/claims.yaml",
        tables=results.claimed_siblings,
        published=SIBLINGS_PUBLISHED,
    output:
        claims="<results>/{suite}/sibling_claims.csv",
    log:
        "<logs>/{suite}/judge_siblings.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        code=code("judge_siblings.py"),
    message:
        "Put the claims of the sibling papers to the test on the {wildcards.suite} suite"
    script:
        "../scripts/judge_siblings.py"


rule all_siblings:
    """All of the sibling papers of the configured suite, under results/."""
    input:
        results.siblings,
    localrule: True
