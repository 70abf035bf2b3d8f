# Tables, in the paper's layouts, and their publication under results/.
#
# Tables 1 and 2 show adapters, Tables 3 and 4 whole checkpoints.

STANDALONE_RELEASE = {"1": "lora", "3": "full"}
MERGED_RELEASE = {"2": "lora", "4": "full"}


rule tabulate_standalone:
    """Make Table 1 or 3: standalone accuracy, with zero-shot as the reference."""
    input:
        records=lambda w: records(w.suite, STANDALONE_RELEASE[w.number]),
        zero_shot=lambda w: zero_shot_records(w.suite, STANDALONE_RELEASE[w.number]),
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
        code=code("tabulate_standalone.py"),
    message:
        "Make Table {wildcards.number} of the {wildcards.suite} suite: standalone accuracy"
    script:
        "../scripts/tabulate_standalone.py"


rule tabulate_merging:
    """Make Table 2 or 4: accuracy after merging, averaged over tasks and trials."""
    input:
        merges=lambda w: merges(w.suite, MERGED_RELEASE[w.number]),
    output:
        table="results/{suite}/table{number,[24]}.csv",
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
        code=code("tabulate_merging.py"),
    message:
        "Make Table {wildcards.number} of the {wildcards.suite} suite: accuracy after merging"
    script:
        "../scripts/tabulate_merging.py"


rule summarise_results:
    """Say in a few lines what Tables 1 and 2 show."""
    input:
        table1="results/{suite}/table1.csv",
        table2="results/{suite}/table2.csv",
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
        artifact=f"results/{config['suite']}/{{artifact}}",
    output:
        artifact="results/{artifact,[a-z]+[0-9]*\\.(csv|pdf|png|txt)}",
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
