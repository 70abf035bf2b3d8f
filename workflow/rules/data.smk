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
        source=f"{configuration.resources}/datasets/{{task}}/source.json",
    log:
        "<logs>/download_dataset/{task}.log",
    # On the machine that Snakemake runs on: a cluster's nodes may have no network.
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        # What makes other files. Mirror and archives offer the same ones, from another place.
        sources=parameters.sources,
    message:
        "Download {wildcards.task}"
    script:
        "../scripts/download_dataset.py"


rule prepare_data:
    """Render or read a task's images, split them, and store them at a backbone's resolution."""
    input:
        raw=files.raw,
    output:
        arrays=expand(
            "<results>/{{suite}}/data/{{task}}/{{resolution}}/{split}.{kind}.npy",
            split=["train", "val", "test"],
            kind=["images", "labels"],
        ),
        splits="<results>/{suite}/data/{task}/{resolution}/splits.json",
        manifest="<results>/{suite}/data/{task}/{resolution}/manifest.json",
    log:
        "<logs>/{suite}/prepare_data/{task}-{resolution}.log",
    conda:
        "../../envs/environment.yaml"
    # Real images are decoded side by side; the arrays do not depend on how many.
    threads: parameters.preparation_threads
    resources:
        mem_mb=parameters.sized(1000, 8000),
        runtime=parameters.sized(10, 120),
    params:
        data=parameters.data,
        seed=parameters.seed,
        # Each source has its own code: an edited rendering prepares no dataset again. A reader
        # counts for the datasets that it reads.
        code=lambda w: code(PREPARATION[parameters.source(w)], entries=parameters.readers(w)),
        script=code_digest.code_digest(ROOT / "workflow/scripts/prepare_data.py", follow=False),
    message:
        "Prepare {wildcards.task} at {wildcards.resolution} px ({wildcards.suite})"
    script:
        "../scripts/prepare_data.py"
