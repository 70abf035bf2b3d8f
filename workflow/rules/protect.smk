# Protection: the update that a maker would release.
#
# Needs the fine-tuned updates; makes results/{suite}/{backbone}/{release_format}/{task}/{protection}/.


rule select_lambda:
    """Choose among a task's updates of a trained protection by validation and copy the winner."""
    input:
        unprotected="<results>/{suite}/{backbone}/{release_format}/{task}/unprotected/update.json",
        candidates=files.lambda_candidates,
    output:
        update_files=update_patterns(protections.trained_protections(), "lora"),
    log:
        "<logs>/{suite}/select_lambda/{backbone}-{release_format}-{task}-{protection}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        tolerance=parameters.tolerance,
        code=code("select_lambda.py"),
    message:
        "Choose λ of {wildcards.protection} for {wildcards.task} on {wildcards.backbone} by validation ({wildcards.release_format})"
    script:
        "../scripts/select_lambda.py"


use rule select_lambda as select_lambda_full with:
    output:
        update_files=update_patterns(protections.trained_protections(), "full"),


rule protect_update:
    """Protect an unprotected update by a post-hoc protection and score it."""
    input:
        model=files.model,
        head=files.head,
        data=files.prepared("val", "test"),
        unprotected=files.to_protect,
    output:
        update_files=update_patterns(protections.post_hoc_protections("lora"), "lora"),
    log:
        "<logs>/{suite}/protect_update/{backbone}-{release_format}-{task}-{protection}.log",
    benchmark:
        "<logs>/{suite}/protect_update/{backbone}-{release_format}-{task}-{protection}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=parameters.sized(2000, 16000),
        runtime=parameters.protect_minutes,
    params:
        backbone=parameters.backbone(),
        logit_scale=parameters.logit_scale,
        batch_size=parameters.batch_size,
        options=parameters.protection_options,
        seed=parameters.seed,
        device=configuration.device,
        code=code.protecting("protect_update.py"),
    message:
        "Protect {wildcards.backbone} on {wildcards.task} by {wildcards.protection} ({wildcards.release_format})"
    script:
        "../scripts/protect_update.py"


use rule protect_update as protect_update_full with:
    output:
        update_files=update_patterns(protections.post_hoc_protections("full"), "full"),
