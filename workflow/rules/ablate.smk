# Ablations: TRAP² adapters trained with one setting changed, on the figures' backbone.
#
# Needs the base, heads, data and unprotected adapters; makes
# .../lora/{task}/ablation/{sweep}~{value}/, .../lora/ablations/{sweep}.json and
# ablation_{sweep}.csv, .pdf and .png.  The sweeps are the suite's `ablations`.  They train anew with
# released checkpoints too, which is why `all_artifacts` leaves them out there.


rule finetune_ablation:
    """Fine-tune a TRAP² adapter with one setting changed."""
    input:
        tower=tower,
        head=lambda w: head(w),
        data=lambda w: prepared(w.suite, w.backbone, w.task, ["train", "val", "test"]),
    output:
        released=expand(
            "results/{suite}/{backbone}/lora/{task}/ablation/{sweep}~{value}/{name}",
            name=UPDATE_FILES["lora"],
            allow_missing=True,
        ),
    log:
        "logs/{suite}/finetune_ablation/{backbone}-{task}-{sweep}-{value}.log",
    benchmark:
        "logs/{suite}/finetune_ablation/{backbone}-{task}-{sweep}-{value}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=sized(2000, 16000),
        runtime=sized(15, 480),
    params:
        backbone=lambda w: model_settings(w, "gradient_checkpointing"),
        release=lambda w: ablated_training(w),
        weight=lambda w: variant(w).weight,
        trap2=lambda w: objective_settings(w) | dict(variant(w).trap2),
        logit_scale=lambda w: suite_of(w)["logit_scale"],
        seed=lambda w: seed_of(w),
        device=config["device"],
        code=code("finetune_ablation.py"),
    message:
        "Fine-tune {wildcards.backbone} on {wildcards.task} with TRAP², {wildcards.sweep} = {wildcards.value}"
    script:
        "../scripts/finetune_ablation.py"


rule merge_ablation:
    """Merge every variant of a sweep with the other tasks' unprotected adapters."""
    input:
        tower=tower,
        heads=heads,
        data=lambda w: all_prepared(w, ["val", "test"]),
        unprotected=lambda w: adapter_files(w, "unprotected"),
        references=lambda w: adapter_records(w, "unprotected"),
        variants=lambda w: [
            file for value, task in swept_variants(w) for file in variant_files(w, task, value)
        ],
    output:
        sweep="results/{suite}/{backbone}/lora/ablations/{sweep}.json",
    log:
        "logs/{suite}/merge_ablation/{backbone}-{sweep}.log",
    benchmark:
        "logs/{suite}/merge_ablation/{backbone}-{sweep}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=sized(3000, 32000),
        runtime=sized(15, 480),
    params:
        backbone=lambda w: model_settings(w),
        tasks=lambda w: suite_of(w)["tasks"],
        values=lambda w: [value for value, task in swept_variants(w)],
        labels=lambda w: {
            value: each.label for value, each in ablations.variants(suite_of(w), w.sweep).items()
        },
        search=lambda w: suite_of(w)["merging"]["search"],
        logit_scale=lambda w: suite_of(w)["logit_scale"],
        batch_size=lambda w: evaluation_batch_size(w),
        device=config["device"],
        code=code("merge_ablation.py"),
    message:
        "Merge the variants of {wildcards.sweep} on {wildcards.backbone}"
    script:
        "../scripts/merge_ablation.py"


rule plot_ablation:
    """Tabulate and plot one ablation."""
    input:
        sweep=lambda w: (
            f"results/{w.suite}/{figures_backbone(w.suite)}/lora/ablations/{w.sweep}.json"
        ),
    output:
        csv="results/{suite}/ablation_{sweep}.csv",
        pdf="results/{suite}/ablation_{sweep}.pdf",
        png=report(
            "results/{suite}/ablation_{sweep}.png",
            caption="../report/ablation.rst",
            category="Ablations",
            labels={"setting": "{sweep}"},
        ),
    log:
        "logs/{suite}/plot_ablation/{sweep}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        seed=lambda w: seed_of(w),
        code=code("plot_ablation.py"),
    message:
        "Plot the ablation of {wildcards.sweep} on the {wildcards.suite} suite"
    script:
        "../scripts/plot_ablation.py"
