# Theory: the constants and bounds of Theorems A.2 and A.4, measured on the figures' backbone.
#
# Needs released adapters; makes .../curvature/{protection}.json, theorem2.csv, theorem4.csv and
# theory.txt.


rule measure_curvature:
    """Measure slopes and curvatures of every update and pair (Theorems A.2 and A.4)."""
    input:
        model=files.model,
        heads=files.heads,
        data=files.all_prepared("test"),
        protected=files.updates(),
        unprotected=files.updates("unprotected"),
    output:
        curvature="<results>/{suite}/{backbone}/lora/curvature/{protection}.json",
    log:
        "<logs>/{suite}/measure_curvature/{backbone}-{protection}.log",
    benchmark:
        "<logs>/{suite}/measure_curvature/{backbone}-{protection}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(3000, 16000),
        runtime=parameters.sized(15, 480),
    params:
        backbone=parameters.backbone(),
        tasks=parameters.tasks,
        images=parameters.curvature_images,
        logit_scale=parameters.logit_scale,
        batch_size=parameters.batch_size,
        seed=parameters.seed,
        device=configuration.device,
        code=code.model("measure_curvature.py"),
    message:
        "Measure the loss's curvature along {wildcards.protection} updates on {wildcards.backbone}"
    script:
        "../scripts/measure_curvature.py"


rule tabulate_theorems:
    """Tabulate Theorems A.2 and A.4, bound beside measurement."""
    input:
        curvature=files.curvatures,
    output:
        scaling="<results>/{suite}/theorem2.csv",
        damage="<results>/{suite}/theorem4.csv",
        statement="<results>/{suite}/theory.txt",
    log:
        "<logs>/{suite}/tabulate_theorems.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        code=code.titled("tabulate_theorems.py"),
    message:
        "Tabulate Theorems A.2 and A.4 on the {wildcards.suite} suite"
    script:
        "../scripts/tabulate_theorems.py"
