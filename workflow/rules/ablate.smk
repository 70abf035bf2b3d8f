# Ablations: TRAP² adapters trained with one setting changed, on the figures' backbone.
#
# Needs the base, heads, data and unprotected adapters; makes
# .../lora/{task}/ablation/{setting}~{value}/, .../lora/ablations/{setting}.json and
# ablation_{setting}.csv, .pdf and .png.  The sweeps are the suite's `ablations`.  They train anew with
# released checkpoints too, which is why `all_artifacts` leaves them out there.


rule finetune_ablation:
    """Fine-tune a TRAP² adapter with one setting changed."""
    input:
        model=model,
        head=lambda w: head(w),
        data=lambda w: prepared(w.suite, w.backbone, w.task, ["train", "val", "test"]),
    output:
        update_files=expand(
            "results/{suite}/{backbone}/lora/{task}/ablation/{setting}~{value}/{name}",
            name=UPDATE_FILES["lora"],
            allow_missing=True,
        ),
    log:
        "logs/{suite}/finetune_ablation/{backbone}-{task}-{setting}-{value}.log",
    benchmark:
        "logs/{suite}/finetune_ablation/{backbone}-{task}-{setting}-{value}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=sized(2000, 16000),
        runtime=sized(15, 480),
    params:
        backbone=lambda w: model_settings(w, "recompute"),
        training=ablated_training,
        lambda_=lambda w: variant(w).lambda_,
        trap2=lambda w: objective_settings(w) | dict(variant(w).trap2),
        logit_scale=lambda w: suite_of(w)["logit_scale"],
        seed=lambda w: seed_of(w),
        device=config["device"],
        code=code("finetune_ablation.py"),
    message:
        "Fine-tune {wildcards.backbone} on {wildcards.task} with TRAP², {wildcards.setting} = {wildcards.value}"
    script:
        "../scripts/finetune_ablation.py"


rule merge_ablation:
    """Merge every variant of a sweep with the other tasks' unprotected adapters."""
    input:
        model=model,
        heads=heads,
        data=lambda w: all_prepared(w, ["val", "test"]),
        unprotected=lambda w: adapter_files(w, "unprotected"),
        references=lambda w: adapter_records(w, "unprotected"),
        variants=lambda w: [
            file for value, task in ablation_variants(w) for file in variant_files(w, task, value)
        ],
    output:
        sweep="results/{suite}/{backbone}/lora/ablations/{setting}.json",
    log:
        "logs/{suite}/merge_ablation/{backbone}-{setting}.log",
    benchmark:
        "logs/{suite}/merge_ablation/{backbone}-{setting}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=sized(3000, 32000),
        runtime=sized(15, 480),
    params:
        backbone=lambda w: model_settings(w),
        tasks=lambda w: suite_of(w)["tasks"],
        values=lambda w: [value for value, task in ablation_variants(w)],
        labels=lambda w: {
            value: each.label for value, each in ablations.variants(suite_of(w), w.setting).items()
        },
        search=lambda w: suite_of(w)["merging"]["search"],
        logit_scale=lambda w: suite_of(w)["logit_scale"],
        batch_size=lambda w: evaluation_batch_size(w),
        device=config["device"],
        code=code("merge_ablation.py"),
    message:
        "Merge the variants of {wildcards.setting} on {wildcards.backbone}"
    script:
        "../scripts/merge_ablation.py"


rule plot_ablation:
    """Tabulate and plot one ablation."""
    input:
        sweep=lambda w: (
            f"results/{w.suite}/{figures_backbone(w.suite)}/lora/ablations/{w.setting}.json"
        ),
    output:
        csv="results/{suite}/ablation_{setting}.csv",
        pdf="results/{suite}/ablation_{setting}.pdf",
        png=report(
            "results/{suite}/ablation_{setting}.png",
            caption="../report/ablation.rst",
            category="Ablations",
            labels={"setting": "{setting}"},
        ),
    log:
        "logs/{suite}/plot_ablation/{setting}.log",
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
        "Plot the ablation of {wildcards.setting} on the {wildcards.suite} suite"
    script:
        "../scripts/plot_ablation.py"
