"""Copy a suite's checkpoints into the bundle data/ and say how to publish it with DVC."""

import sys

from trap2 import bundle, files, job, lineage

with job.running(snakemake) as say:
    given, params = snakemake.input, snakemake.params
    staged = bundle.stage(
        params.suite,
        map(str, given.checkpoints),
        map(str, given.splits),
        map(str, given.reference),
        params.configuration,
    )
    size = sum((lineage.BUNDLE / name).stat().st_size for name in staged)
    folder = lineage.BUNDLE / params.suite
    say(f"staged {len(staged)} files, {size / 1e6:.1f} MB, in {folder}")
    dirty = files.read_json(folder / lineage.MANIFEST)["revision"].endswith("+changes")
    print(
        f"{folder}: {len(staged)} files, {size / 1e6:.1f} MB.\n"
        + ("The tree has changes that are not committed; the manifest says so.\n" if dirty else "")
        + "Publish the bundle with\n\n    dvc add data\n    dvc push\n\n"
        "and commit data.dvc (and bundle/, where that is the remote).",
        file=sys.stderr,
    )
