# Data: from a task's name to memory-mapped arrays at a backbone's resolution.
#
# Needs nothing but the configuration; makes results/{suite}/data/{task}/{resolution}/.


rule prepare_data:
    """Render or read a task's images, split them, and store them at a backbone's resolution."""
    output:
        arrays=expand(
            "results/{{suite}}/data/{{task}}/{{resolution}}/{split}.{kind}.npy",
            split=["train", "val", "test"],
            kind=["images", "labels"],
        ),
        manifest="results/{suite}/data/{task}/{resolution}/manifest.json",
    log:
        "logs/{suite}/prepare_data/{task}-{resolution}.log",
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        data=lambda w: suite_of(w)["data"],
        seed=config["seed"],
        code=code("prepare_data.py"),
    message:
        "Prepare {wildcards.task} at {wildcards.resolution} px ({wildcards.suite})"
    script:
        "../scripts/prepare_data.py"
