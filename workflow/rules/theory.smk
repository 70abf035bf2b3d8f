# Theory: the constants and bounds of Theorems A.2 and A.4, measured on the figures' backbone.
#
# Needs released adapters; makes .../curvature/{protection}.json, theorem2.csv, theorem4.csv and
# theory.txt.


rule measure_curvature:
    """Measure slopes and curvatures of every update and pair (Theorems A.2 and A.4)."""
    input:
        model=model,
        heads=heads,
        data=lambda w: all_prepared(w, ["test"]),
        protected=lambda w: adapter_files(w, w.protection),
        unprotected=lambda w: adapter_files(w, "unprotected"),
    output:
        curvature="results/{suite}/{backbone}/lora/curvature/{protection}.json",
    log:
        "logs/{suite}/measure_curvature/{backbone}-{protection}.log",
    benchmark:
        "logs/{suite}/measure_curvature/{backbone}-{protection}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=sized(3000, 16000),
        runtime=sized(15, 480),
    params:
        backbone=lambda w: model_settings(w),
        tasks=lambda w: suite_of(w)["tasks"],
        images=lambda w: suite_of(w)["figures"]["curvature_images"],
        logit_scale=lambda w: suite_of(w)["logit_scale"],
        seed=lambda w: seed_of(w),
        device=config["device"],
        code=code("measure_curvature.py"),
    message:
        "Measure the loss's curvature along {wildcards.protection} updates on {wildcards.backbone}"
    script:
        "../scripts/measure_curvature.py"


rule tabulate_theorems:
    """Tabulate Theorems A.2 and A.4, bound beside measurement."""
    input:
        curvature=lambda w: [
            f"results/{w.suite}/{figures_backbone(w.suite)}/lora/curvature/{protection}.json"
            for protection in ("unprotected", "trap2")
        ],
    output:
        scaling="results/{suite}/theorem2.csv",
        damage="results/{suite}/theorem4.csv",
        statement="results/{suite}/theory.txt",
    log:
        "logs/{suite}/tabulate_theorems.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        code=code("tabulate_theorems.py"),
    message:
        "Tabulate Theorems A.2 and A.4 on the {wildcards.suite} suite"
    script:
        "../scripts/tabulate_theorems.py"
