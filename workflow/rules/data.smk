# Data: from a task's name to memory-mapped arrays at a backbone's resolution.
#
# Needs nothing but the configuration; makes results/{suite}/data/{task}/{resolution}/.  The demo
# renders its tasks.  Real datasets are downloaded to {resources}/datasets/{task}/, once for all
# suites: downloads/ as received, content/ unpacked, checksums.json with what was received (it
# binds later downloads, so no rule owns it) and source.json, written last.


PREPARATION = {
    "demo": "trap2/data/demo/prepare.py",
    "catalogue": "trap2/data/preparation.py",
}


rule download_dataset:
    """Fetch a dataset's files, check them, and unpack them; files that are there are checked."""
    output:
        source=f"{config['resources']}/datasets/{{task}}/source.json",
    log:
        "logs/download_dataset/{task}.log",
    # On the machine that Snakemake runs on: a cluster's nodes may have no network.
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=720,
    params:
        # What makes other files. Mirror and archives offer the same ones, from another place.
        sources=lambda w: dataset_row(w.task)["sources"],
    message:
        "Download {wildcards.task}"
    script:
        "../scripts/download_dataset.py"


rule prepare_data:
    """Render or read a task's images, split them, and store them at a backbone's resolution."""
    input:
        raw=raw_dataset,
    output:
        arrays=expand(
            "results/{{suite}}/data/{{task}}/{{resolution}}/{split}.{kind}.npy",
            split=["train", "val", "test"],
            kind=["images", "labels"],
        ),
        splits="results/{suite}/data/{task}/{resolution}/splits.json",
        manifest="results/{suite}/data/{task}/{resolution}/manifest.json",
    log:
        "logs/{suite}/prepare_data/{task}-{resolution}.log",
    conda:
        "../../envs/environment.yaml"
    # Real images are decoded side by side; the arrays do not depend on how many.
    threads: lambda w: 1 if suite_of(w)["data"]["source"] == "demo" else 4
    resources:
        mem_mb=sized(1000, 8000),
        runtime=sized(10, 120),
    params:
        data=lambda w: preparation_settings(w),
        seed=lambda w: seed_of(w),
        # Each source has its own code: an edited rendering prepares no dataset again.
        code=lambda w: code(PREPARATION[suite_of(w)["data"]["source"]]),
        script=code_digest.code_digest(ROOT / "workflow/scripts/prepare_data.py", follow=False),
    message:
        "Prepare {wildcards.task} at {wildcards.resolution} px ({wildcards.suite})"
    script:
        "../scripts/prepare_data.py"
