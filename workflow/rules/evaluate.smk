# Evaluation: what an update does at other scales than 1 (Figures 2, 5 and 7), after what people do
# to weights without merging them, and what two updates of different tasks do together (Figures 3, 4
# and 8, Table 6).
#
# Needs one backbone's released updates; makes .../scales/{protection}.json,
# .../handling/{protection}.json and .../pairs/{protection}.json.


rule sweep_scales:
    """Score every task's update at a grid of scales, W0 + s·ΔW."""
    input:
        model=files.model,
        heads=files.heads,
        data=files.all_prepared("test"),
        updates=files.updates(),
    output:
        sweeps="<results>/{suite}/{backbone}/{release_format}/scales/{protection}.json",
    log:
        "<logs>/{suite}/sweep_scales/{backbone}-{release_format}-{protection}.log",
    benchmark:
        "<logs>/{suite}/sweep_scales/{backbone}-{release_format}-{protection}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(2000, 16000),
        runtime=parameters.sized(10, 240),
    params:
        backbone=parameters.backbone(),
        tasks=parameters.tasks,
        logit_scale=parameters.logit_scale,
        batch_size=parameters.batch_size,
        device=configuration.device,
        code=code.task_arithmetic("sweep_scales.py"),
    message:
        "Sweep the scale of the {wildcards.protection} updates on {wildcards.backbone} ({wildcards.release_format})"
    script:
        "../scripts/sweep_scales.py"


rule handle_updates:
    """Score every task's update alone after casts, cuts, quantisation and other weights."""
    input:
        model=files.model,
        heads=files.heads,
        data=files.all_prepared("test"),
        updates=files.updates(),
    output:
        handling="<results>/{suite}/{backbone}/{release_format}/handling/{protection}.json",
    log:
        "<logs>/{suite}/handle_updates/{backbone}-{release_format}-{protection}.log",
    benchmark:
        "<logs>/{suite}/handle_updates/{backbone}-{release_format}-{protection}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(2000, 16000),
        runtime=parameters.sized(10, 240),
    params:
        backbone=parameters.backbone(),
        tasks=parameters.tasks,
        logit_scale=parameters.logit_scale,
        batch_size=parameters.batch_size,
        rank=parameters.extraction_rank,
        device=configuration.device,
        code=code.treatments("handle_updates.py"),
    message:
        "Handle the {wildcards.protection} updates on {wildcards.backbone} ({wildcards.release_format})"
    script:
        "../scripts/handle_updates.py"


rule mix_pairs:
    """Mix every task's protected adapter with every other task's unprotected one."""
    input:
        model=files.model,
        heads=files.heads,
        data=files.all_prepared("test"),
        protected=files.updates(),
        unprotected=files.updates("unprotected"),
    output:
        # One job for all ordered pairs: loading the model and the data costs more than a pair.
        pairs="<results>/{suite}/{backbone}/lora/pairs/{protection}.json",
    log:
        "<logs>/{suite}/mix_pairs/{backbone}-{protection}.log",
    benchmark:
        "<logs>/{suite}/mix_pairs/{backbone}-{protection}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(2000, 16000),
        runtime=parameters.sized(15, 480),
    params:
        backbone=parameters.backbone(),
        tasks=parameters.tasks,
        logit_scale=parameters.logit_scale,
        batch_size=parameters.batch_size,
        device=configuration.device,
        code=code.model("mix_pairs.py"),
    message:
        "Mix pairs of adapters on {wildcards.backbone}, one of them {wildcards.protection}"
    script:
        "../scripts/mix_pairs.py"
