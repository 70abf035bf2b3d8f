"""Fetch a dataset's files, check them, and unpack them into the folder of downloads."""

from pathlib import Path

from trap2 import job
from trap2.data.catalogue import parse_row
from trap2.data.sources import download

with job.running(snakemake) as say:
    facts = download(
        parse_row(snakemake.wildcards.task, snakemake.params.dataset),
        Path(snakemake.output.source).parent,
        mirror=snakemake.params.mirror,
        archives=snakemake.params.archives,
        log=say,
    )
    say(f"{len(facts['files'])} files of {facts['task']}, source '{facts['source']}', are whole")
