# Models: the base W0 and its zero-shot heads.
#
# The demo pretrains its base; real backbones are fetched, or read from a local file.  Heads need
# the prepared data (class names, prompt templates, images to score zero-shot).  Makes
# results/{suite}/{backbone}/base.safetensors (the whole CLIP),
# tower.safetensors (its vision tower, W0, under the names that updates use) and
# heads/{task}.safetensors.


rule pretrain_base:
    """Pretrain a tiny CLIP on captions of clean renderings: the demo's base model W0."""
    output:
        weights="<results>/{suite}/{backbone}/base.safetensors",
        model="<results>/{suite}/{backbone}/tower.safetensors",
        record="<results>/{suite}/{backbone}/base.json",
    log:
        "<logs>/{suite}/pretrain_base/{backbone}.log",
    benchmark:
        "<logs>/{suite}/pretrain_base/{backbone}.benchmark.tsv"
    wildcard_constraints:
        suite=suites_from("demo"),
    # Everything waits for the bases: start them first.
    priority: 100
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w, attempt: 15 * attempt,
    params:
        backbone=parameters.backbone("resolution", "pretraining"),
        tasks=parameters.tasks,
        seed=parameters.seed,
        code=code.model("pretrain_base.py"),
    message:
        "Pretrain the base model {wildcards.backbone} contrastively ({wildcards.suite})"
    script:
        "../scripts/pretrain_base.py"


rule fetch_base:
    """Fetch a published CLIP, or read it from a local file: the base model W0."""
    output:
        weights="<results>/{suite}/{backbone}/base.safetensors",
        model="<results>/{suite}/{backbone}/tower.safetensors",
        record="<results>/{suite}/{backbone}/base.json",
    log:
        "<logs>/{suite}/fetch_base/{backbone}.log",
    wildcard_constraints:
        suite=suites_from("catalogue"),
    priority: 100
    # On the machine that Snakemake runs on: a cluster's nodes may have no network.
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        backbone=parameters.backbone("pretrained", "resolution", "normalisation"),
        downloads=f"{configuration.resources}/models",
        code=code.model("fetch_base.py"),
    message:
        "Fetch the base model {wildcards.backbone} ({wildcards.suite})"
    script:
        "../scripts/fetch_base.py"


rule build_head:
    """Build a task's zero-shot head from the text tower and score the base model with it."""
    input:
        base="<results>/{suite}/{backbone}/base.safetensors",
        data=files.prepared("val", "test"),
    output:
        head="<results>/{suite}/{backbone}/heads/{task}.safetensors",
        record="<results>/{suite}/{backbone}/heads/{task}.json",
    log:
        "<logs>/{suite}/build_head/{backbone}-{task}.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(2000, 8000),
        runtime=parameters.sized(10, 30),
    params:
        backbone=parameters.backbone(),
        logit_scale=parameters.logit_scale,
        batch_size=parameters.batch_size,
        device=configuration.device,
        code=code.model("build_head.py"),
    message:
        "Build the zero-shot head of {wildcards.task} for {wildcards.backbone} and score it"
    script:
        "../scripts/build_head.py"
