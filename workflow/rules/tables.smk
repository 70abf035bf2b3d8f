# Tables, in the paper's layouts, and their publication under results/.
#
# Tables 1 and 2 show adapters, Tables 3 and 4 whole checkpoints, as CSV and as LaTeX.  A table that
# a suite cannot have is made and says why; trap2/suites/artifacts.py knows which.


rule tabulate_standalone:
    """Make Table 1 or 3: standalone accuracy, with zero-shot as the reference."""
    input:
        records=lambda w: records(w.suite, table_release(w)),
        zero_shot=lambda w: zero_shot_records(w.suite, table_release(w)),
    output:
        table="results/{suite}/table{number,[13]}.csv",
    log:
        "logs/{suite}/tabulate_standalone/table{number}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        tasks=lambda w: suite_of(w)["tasks"],
        not_applicable=lambda w: table_not_applicable(w),
        code=code("tabulate_standalone.py"),
    message:
        "Make Table {wildcards.number} of the {wildcards.suite} suite: standalone accuracy"
    script:
        "../scripts/tabulate_standalone.py"


rule tabulate_merging:
    """Make Table 2, 4 or 5: accuracy after merging, averaged over tasks and trials."""
    input:
        merges=table_merges,
    output:
        table="results/{suite}/table{number,[245]}.csv",
    log:
        "logs/{suite}/tabulate_merging/table{number}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        columns=lambda w: table_columns(w),
        not_applicable=lambda w: table_not_applicable(w),
        code=code("tabulate_merging.py"),
    message:
        "Make Table {wildcards.number} of the {wildcards.suite} suite: accuracy after merging"
    script:
        "../scripts/tabulate_merging.py"


rule tabulate_complete:
    """Make one of Tables 7 to 11: accuracy after merging, one column a protected task."""
    input:
        merges=table_merges,
    output:
        table="results/{suite}/table{number,7|8|9|10|11}.csv",
    log:
        "logs/{suite}/tabulate_complete/table{number}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        tasks=lambda w: suite_of(w)["tasks"],
        columns=lambda w: table_columns(w),
        not_applicable=lambda w: table_not_applicable(w),
        code=code("tabulate_complete.py"),
    message:
        "Make Table {wildcards.number} of the {wildcards.suite} suite: every protected task's merges"
    script:
        "../scripts/tabulate_complete.py"


rule tabulate_correlations:
    """Make Table 6: correlations of two adapters' distance with the loss at their midpoint."""
    input:
        pairs=lambda w: [] if table_not_applicable(w, 6) else [pair_mixes(w.suite)],
    output:
        table="results/{suite}/table6.csv",
    log:
        "logs/{suite}/tabulate_correlations.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        not_applicable=lambda w: table_not_applicable(w, 6),
        code=code("tabulate_correlations.py"),
    message:
        "Make Table 6 of the {wildcards.suite} suite: distance and loss between adapters"
    script:
        "../scripts/tabulate_correlations.py"


rule render_table:
    """Render a table of a suite as LaTeX, in the paper's layout."""
    input:
        table="results/{suite}/table{number}.csv",
        standalone=standalone_of_merging,
    output:
        tex="results/{suite}/table{number,[1-9]|10|11}.tex",
    log:
        "logs/{suite}/render_table/table{number}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        kind=lambda w: artifacts.TABLES[int(w.number)].kind,
        seed=lambda w: seed_of(w),
        code=code("render_table.py"),
    message:
        "Render Table {wildcards.number} of the {wildcards.suite} suite"
    script:
        "../scripts/render_table.py"


rule summarise_seeds:
    """Give mean and standard deviation over seeds of every number of a table."""
    input:
        tables=lambda w: [f"results/{suite}/table{w.number}.csv" for suite in replicas(w.suite)],
    output:
        table="results/{suite}/seeds/table{number,[1-9]|10|11}.csv",
    log:
        "logs/{suite}/summarise_seeds/table{number}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        seeds=config.get("seeds"),
        code=code("summarise_seeds.py"),
    message:
        "Table {wildcards.number} of the {wildcards.suite} suite over all seeds"
    script:
        "../scripts/summarise_seeds.py"


use rule render_table as render_seeds with:
    input:
        table="results/{suite}/seeds/table{number}.csv",
        standalone=lambda w: [
            path.replace(f"{w.suite}/", f"{w.suite}/seeds/", 1)
            for path in standalone_of_merging(w)
        ],
    output:
        tex="results/{suite}/seeds/table{number,[1-9]|10|11}.tex",
    log:
        "logs/{suite}/render_seeds/table{number}.log",


rule render_published:
    """Render one of the paper's tables from its published numbers, in the same layout."""
    input:
        numbers="config/published/table{number}.csv",
        standalone=lambda w: (
            [f"config/published/table{int(w.number) - 1}.csv"] if w.number in ("2", "4") else []
        ),
    output:
        tex="results/published/table{number,[1-9]|10|11}.tex",
    log:
        "logs/published/render_published/table{number}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        kind=lambda w: artifacts.TABLES[int(w.number)].kind,
        code=code("render_published.py"),
    message:
        "Render the published Table {wildcards.number}"
    script:
        "../scripts/render_published.py"


rule summarise_results:
    """Say in a few lines what Tables 1 and 2 show."""
    input:
        table1="results/{suite}/table1.csv",
        table2="results/{suite}/table2.csv",
        trap2=lambda w: records(w.suite, "lora", ["trap2"]),
    output:
        summary="results/{suite}/summary.txt",
    log:
        "logs/{suite}/summarise_results.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        places={
            "results/table1.csv": "accuracy of each update used alone",
            "results/table2.csv": "accuracy after merging, every method and space",
            "results/cells.csv": "every single merge, task by task",
            "results/figure2.png": "loss and accuracy over the scale of one update",
            "results/figure5.png": "what averaging N updates does to each task",
        },
        code=code("summarise_results.py"),
    message:
        "Summarise the {wildcards.suite} suite"
    script:
        "../scripts/summarise_results.py"


rule publish:
    """Copy an artifact of the configured suite to results/."""
    input:
        artifact=published_artifact,
    output:
        artifact="results/{artifact,[a-z_]+[0-9]*\\.(csv|json|md|pdf|png|tex|txt)}",
    log:
        "logs/publish/{artifact}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        suite=config["suite"],
        code=code("publish.py"),
    message:
        "Publish {wildcards.artifact} of the configured suite under results/"
    script:
        "../scripts/publish.py"
