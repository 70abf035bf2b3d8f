# Fine-tuning: one update a task, unprotected or with a trained protection for one λ of the grid.
#
# Needs the base, the head and the prepared data of the task; makes the update's files and its
# record update.json under results/{suite}/{backbone}/{release_format}/{task}/.


rule finetune_unprotected:
    """Fine-tune an update with the task loss alone."""
    input:
        model="<results>/{suite}/{backbone}/tower.safetensors",
        head="<results>/{suite}/{backbone}/heads/{task}.safetensors",
        data=files.prepared("train", "val", "test"),
    output:
        update_files=expand(
            "<results>/{suite}/{backbone}/{{release_format,lora}}/{{task}}/unprotected/{name}",
            name=UPDATE_FILES["lora"],
            allow_missing=True,
        ),
    log:
        "<logs>/{suite}/finetune_unprotected/{backbone}-{release_format}-{task}.log",
    benchmark:
        "<logs>/{suite}/finetune_unprotected/{backbone}-{release_format}-{task}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(2000, 16000),
        runtime=parameters.sized(10, 240),
    params:
        backbone=parameters.backbone("recompute"),
        training=parameters.training,
        logit_scale=parameters.logit_scale,
        seed=parameters.seed,
        device=configuration.device,
        code=code.model("finetune_unprotected.py"),
    message:
        "Fine-tune {wildcards.backbone} on {wildcards.task}, unprotected ({wildcards.release_format})"
    script:
        "../scripts/finetune_unprotected.py"


use rule finetune_unprotected as finetune_unprotected_full with:
    output:
        update_files=expand(
            "<results>/{suite}/{backbone}/{{release_format,full}}/{{task}}/unprotected/{name}",
            name=UPDATE_FILES["full"],
            allow_missing=True,
        ),


rule finetune_protected:
    """Fine-tune an update with a trained protection (TRAP²: Algorithm 1) at one λ."""
    input:
        model="<results>/{suite}/{backbone}/tower.safetensors",
        head="<results>/{suite}/{backbone}/heads/{task}.safetensors",
        data=files.prepared("train", "val", "test"),
        # None but for a protection that is trained against other tasks' updates.
        partners=files.partners,
        # None but for a protection whose training starts from the unprotected update.
        start=files.start,
    output:
        update_files=update_patterns(
            protections.trained_protections(), "lora", "lambda~{lambda_text}"
        ),
    log:
        "<logs>/{suite}/finetune_protected/{backbone}-{release_format}-{task}-{protection}-lambda~{lambda_text}.log",
    benchmark:
        "<logs>/{suite}/finetune_protected/{backbone}-{release_format}-{task}-{protection}-lambda~{lambda_text}.benchmark.tsv"
    # The longest trainings first, so that none is left over at the end.
    priority: 10
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(2000, 16000),
        runtime=parameters.sized(15, 480),
    params:
        backbone=parameters.backbone("recompute"),
        training=parameters.training,
        options=parameters.protection_options,
        logit_scale=parameters.logit_scale,
        seed=parameters.seed,
        device=configuration.device,
        code=code.protecting("finetune_protected.py"),
    message:
        "Fine-tune {wildcards.backbone} on {wildcards.task}, {wildcards.protection}, λ = {wildcards.lambda_text} ({wildcards.release_format})"
    script:
        "../scripts/finetune_protected.py"


use rule finetune_protected as finetune_protected_full with:
    output:
        update_files=update_patterns(
            protections.trained_protections(), "full", "lambda~{lambda_text}"
        ),
