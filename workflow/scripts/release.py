"""Copy a suite's checkpoints into the bundle data/ and say how to publish it with DVC."""

import sys

from trap2.runtime import files, job, provenance
from trap2.runtime.script import snakemake
from trap2.suites import bundle

with job.running(snakemake) as log:
    given, params = snakemake.input, snakemake.params
    staged = bundle.stage(
        params.suite,
        map(str, given.checkpoints),
        map(str, given.splits),
        map(str, given.reference),
        params.configuration,
    )
    size = sum((provenance.BUNDLE / name).stat().st_size for name in staged)
    folder = provenance.BUNDLE / params.suite
    log(f"staged {len(staged)} files, {size / 1e6:.1f} MB, in {folder}")
    dirty = files.read_json(folder / provenance.MANIFEST)["revision"].endswith("+changes")
    print(
        f"{folder}: {len(staged)} files, {size / 1e6:.1f} MB.\n"
        + ("The tree has changes that are not committed; the manifest says so.\n" if dirty else "")
        + "Publish the bundle with\n\n    dvc add data\n    dvc push\n\n"
        "and commit data.dvc (and bundle/, where that is the remote).",
        file=sys.stderr,
    )
