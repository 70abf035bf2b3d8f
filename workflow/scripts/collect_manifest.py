"""List every file behind a suite's artifacts with its SHA-256, from the records of the jobs."""

from trap2.runtime import files, job, provenance
from trap2.runtime.script import snakemake
from trap2.runtime.versions import versions

with job.running(snakemake) as log:
    found = provenance.collect(map(str, snakemake.input))
    manifest = {
        "suite": snakemake.wildcards.suite,
        "seed": snakemake.params.seed,
        "checkpoints": snakemake.params.checkpoints,
        "versions": versions(),
        "files": found,
    }
    files.write_json(snakemake.output.manifest, manifest)
    log(f"{len(found)} files behind {len(snakemake.input)} artifacts")
