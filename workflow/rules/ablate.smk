# Ablations: TRAP² adapters trained with one setting changed, on the figures' backbone.
#
# Needs the base, heads, data and unprotected adapters; makes
# .../lora/{task}/ablation/{setting}~{value}/, .../lora/ablations/{setting}.json and
# ablation_{setting}.csv, .pdf and .png.  The sweeps are the suite's `ablations`.  They train anew with
# released checkpoints too, which is why `all_artifacts` leaves them out there.


rule finetune_ablation:
    """Fine-tune a TRAP² adapter with one setting changed."""
    input:
        model=files.model,
        head=files.head,
        data=files.prepared("train", "val", "test"),
    output:
        update_files=expand(
            "<results>/{suite}/{backbone}/lora/{task}/ablation/{setting}~{value}/{name}",
            name=UPDATE_FILES["lora"],
            allow_missing=True,
        ),
    log:
        "<logs>/{suite}/finetune_ablation/{backbone}-{task}-{setting}-{value}.log",
    benchmark:
        "<logs>/{suite}/finetune_ablation/{backbone}-{task}-{setting}-{value}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(2000, 16000),
        runtime=parameters.sized(15, 480),
    params:
        backbone=parameters.backbone("recompute"),
        training=parameters.ablated_training,
        lambda_=parameters.ablated_lambda,
        trap2=parameters.ablated_objective,
        logit_scale=parameters.logit_scale,
        seed=parameters.seed,
        device=configuration.device,
        code=code.model("finetune_ablation.py"),
    message:
        "Fine-tune {wildcards.backbone} on {wildcards.task} with TRAP², {wildcards.setting} = {wildcards.value}"
    script:
        "../scripts/finetune_ablation.py"


rule merge_ablation:
    """Merge every variant of a sweep with the other tasks' unprotected adapters."""
    input:
        model=files.model,
        heads=files.heads,
        data=files.all_prepared("val", "test"),
        unprotected=files.updates("unprotected"),
        references=files.references,
        variants=files.ablated,
    output:
        sweep="<results>/{suite}/{backbone}/lora/ablations/{setting}.json",
    log:
        "<logs>/{suite}/merge_ablation/{backbone}-{setting}.log",
    benchmark:
        "<logs>/{suite}/merge_ablation/{backbone}-{setting}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(3000, 32000),
        runtime=parameters.sized(15, 480),
    params:
        backbone=parameters.backbone(),
        tasks=parameters.tasks,
        values=parameters.ablated_values,
        labels=parameters.ablated_labels,
        search=parameters.search,
        logit_scale=parameters.logit_scale,
        batch_size=parameters.batch_size,
        device=configuration.device,
        code=code.task_arithmetic("merge_ablation.py"),
    message:
        "Merge the variants of {wildcards.setting} on {wildcards.backbone}"
    script:
        "../scripts/merge_ablation.py"


rule plot_ablation:
    """Tabulate and plot one ablation."""
    input:
        sweep=files.ablation,
    output:
        csv="<results>/{suite}/ablation_{setting}.csv",
        pdf="<results>/{suite}/ablation_{setting}.pdf",
        png=report(
            "<results>/{suite}/ablation_{setting}.png",
            caption="../report/ablation.rst",
            category="Ablations",
            labels={"setting": "{setting}"},
        ),
    log:
        "<logs>/{suite}/plot_ablation/{setting}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        seed=parameters.seed,
        code=code("plot_ablation.py"),
    message:
        "Plot the ablation of {wildcards.setting} on the {wildcards.suite} suite"
    script:
        "../scripts/plot_ablation.py"
