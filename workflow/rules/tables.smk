# Tables, in the paper's layouts, and their publication under results/.
#
# Tables 1 and 2 show adapters, Tables 3 and 4 whole checkpoints.

STANDALONE_RELEASE = {"1": "lora", "3": "full"}
MERGED_RELEASE = {"2": "lora", "4": "full"}


rule tabulate_standalone:
    """Make Table {wildcards.number} of the {wildcards.suite} suite: standalone accuracy."""
    input:
        records=lambda w: records(w.suite, STANDALONE_RELEASE[w.number]),
        zero_shot=lambda w: zero_shot_records(w.suite, STANDALONE_RELEASE[w.number]),
    output:
        "results/{suite}/table{number,[13]}.csv",
    log:
        "logs/{suite}/tabulate_standalone/table{number}.log",
    params:
        tasks=lambda w: suite_of(w)["tasks"],
        code=code("tabulate_standalone.py"),
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    script:
        "../scripts/tabulate_standalone.py"


rule tabulate_merging:
    """Make Table {wildcards.number} of the {wildcards.suite} suite: accuracy after merging."""
    input:
        lambda w: merges(w.suite, MERGED_RELEASE[w.number]),
    output:
        "results/{suite}/table{number,[24]}.csv",
    log:
        "logs/{suite}/tabulate_merging/table{number}.log",
    params:
        columns=lambda w: table_columns(w),
        code=code("tabulate_merging.py"),
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    script:
        "../scripts/tabulate_merging.py"


rule publish:
    """Publish {wildcards.artifact} of the configured suite under results/."""
    input:
        f"results/{config['suite']}/{{artifact}}",
    output:
        "results/{artifact,[a-z]+[0-9]*\\.(csv|pdf|png)}",
    log:
        "logs/publish/{artifact}.log",
    params:
        suite=config["suite"],
        code=code("publish.py"),
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    script:
        "../scripts/publish.py"
