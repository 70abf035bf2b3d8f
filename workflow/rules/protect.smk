# Protection: the update that a maker would release.
#
# Needs the fine-tuned updates; makes results/{suite}/{backbone}/{release}/{task}/{protection}/.


rule select_lambda:
    """Choose among a task's TRAP² updates by validation and copy the winner."""
    input:
        unprotected="results/{suite}/{backbone}/{release}/{task}/unprotected/update.json",
        candidates=lambda_candidates,
    output:
        released=expand(
            "results/{suite}/{backbone}/{{release,lora}}/{{task}}/trap2/{name}",
            name=UPDATE_FILES["lora"],
            allow_missing=True,
        ),
    log:
        "logs/{suite}/select_lambda/{backbone}-{release}-{task}.log",
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        tolerance=lambda w: suite_of(w)["trap2"]["tolerance"],
        code=code("select_lambda.py"),
    message:
        "Choose λ for {wildcards.task} on {wildcards.backbone} by validation ({wildcards.release})"
    script:
        "../scripts/select_lambda.py"


use rule select_lambda as select_lambda_full with:
    output:
        released=expand(
            "results/{suite}/{backbone}/{{release,full}}/{{task}}/trap2/{name}",
            name=UPDATE_FILES["full"],
            allow_missing=True,
        ),
