"""A run that fails ends with the job, its last words, the likely reason and the next command."""


def test_a_failed_job_is_explained(clone):
    clone.edit(
        "workflow/scripts/prepare_data.py",
        "    data, seed =",
        '    raise OSError(28, "No space left on device")\n    data, seed =',
    )
    target = "results/smoke/data/shapes/32/manifest.json"
    run = clone.snakemake(target, "--cores", "1", "--config", *clone.settings)
    assert run.code != 0
    told = run.output.split("FAILED", 1)[1]
    assert "prepare_data: Prepare shapes at 32 px (smoke)" in told
    assert "log     logs/smoke/prepare_data/shapes-32.log" in told
    assert "| OSError: [Errno 28] No space left on device" in told
    assert "reason  the disk is full" in told
    assert f"Then go on with: snakemake {target} --cores 1 --config suite=smoke" in told
