"""Fetch a dataset's files, check them, and unpack them into the folder of downloads."""

from pathlib import Path

from trap2.data.catalogue import load_catalogue
from trap2.data.sources import download
from trap2.runtime import job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    config = snakemake.config
    (source,) = snakemake.params.sources
    facts = download(
        load_catalogue(config.get("catalogue"))[snakemake.wildcards.task],
        Path(snakemake.output.source).parent,
        source=source,
        mirror=config.get("mirror"),
        archives=config.get("archives"),
        log=log,
    )
    log(f"{len(facts['files'])} files of {facts['task']}, source '{facts['source']}', are whole")
